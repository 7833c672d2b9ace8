"""Clients of an HTTP/1.1 application: `mirror_client.py HOST PORT COUNT AT_ONCE PER_CONNECTION [PATH]`.

COUNT requests over AT_ONCE connections at a time, PER_CONNECTION on each; every third has a body. It says how many were
answered. A PATH of `/in` tells in it which request it was.
"""

import asyncio
import itertools
import sys


async def one(host, port, numbers, per_connection, path):
    answered = 0
    for chunk in iter(lambda: list(itertools.islice(numbers, per_connection)), []):
        reader, writer = await asyncio.open_connection(host, port)
        for number in chunk:
            body = b"x" * (number % 5000) if number % 3 == 0 else b""
            head = f"POST {path}/{number} HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"yes")
            answered += answer.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
    return answered


async def main():
    host, port, count, at_once, per_connection = sys.argv[1], *map(int, sys.argv[2:6])
    path = sys.argv[6] if len(sys.argv) > 6 else "/in"
    numbers = iter(range(count))
    print(
        sum(await asyncio.gather(*(one(host, port, numbers, per_connection, path) for _ in range(at_once))))
    )


asyncio.run(main())
