"""Unary and streaming calls, each way, to grpc_server.py: grpc_client.py ADDRESS."""

from __future__ import annotations

import asyncio
import queue
import sys

import grpc
import grpc.aio

with grpc.insecure_channel(sys.argv[1]) as channel:
    print(channel.unary_unary("/Probe/Echo")(b"hello", timeout=30).decode())
    print(sum(int(number) for number in channel.unary_stream("/Probe/Count")(b"1000", timeout=30)))
    print(channel.stream_unary("/Probe/Total")(iter([bytes(50_000)] * 40), timeout=30).decode())
    asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    heard = channel.stream_stream("/Probe/Talk")(iter(asked.get, None), timeout=30)
    for word in (b"one", b"two", b"three"):  # each is asked after the one before was answered
        asked.put(word)
        print(next(heard).decode())
    asked.put(None)
    assert list(heard) == []
    try:
        channel.unary_unary("/Probe/Echo")(b"refuse", timeout=30)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
try:
    with grpc.insecure_channel(f"{sys.argv[1].split(':')[0]}:1") as channel:
        channel.unary_unary("/Probe/Echo")(b"hello", timeout=30)
except grpc.RpcError as error:
    print(error.code().name)


async def together() -> None:
    """A hundred calls at once, polled by asyncio's half of the library."""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        ask = channel.unary_unary("/Probe/Echo")
        print(sum(map(int, await asyncio.gather(*(ask(b"%d" % i, timeout=30) for i in range(100))))))


asyncio.run(together())
