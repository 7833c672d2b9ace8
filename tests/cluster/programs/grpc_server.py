"""A gRPC server without generated code, whose messages are plain bytes: grpc_server.py PORT."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


def echo(asked: bytes, context: grpc.ServicerContext) -> bytes:
    if asked == b"refuse":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "refused by the server")
    return asked.upper()


def count(asked: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(asked)):
        yield b"%d" % number


def total(asked: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(map(len, asked))


def talk(asked: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for message in asked:
        yield message.upper()


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Probe", METHODS),))
assert server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
server.wait_for_termination()
