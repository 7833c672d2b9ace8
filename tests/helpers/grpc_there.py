"""A gRPC server without generated code: messages are bytes, and each answer begins with the server's name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

SERVICE = "demo.Demo"


class Server:
    """hang: set when a call of `Hang` was cancelled. calls: names of methods, in the order they came."""

    def __init__(self, name: bytes) -> None:
        self.name, self.calls = name, list[str]()
        self.hangs, self.cancelled = threading.Event(), threading.Event()

    def unary(self, request: bytes, context: Any) -> bytes:
        self.calls.append("Unary")
        context.set_trailing_metadata((("x-trailer", "last"), ("x-raw-bin", b"\x00\xff")))
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as was asked: 100 %")
        return self.name + b":" + request

    def down(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.calls.append("Down")
        for number in range(int(request)):
            yield self.name + b":%d" % number

    def up(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.calls.append("Up")
        return self.name + b":%d" % sum(map(len, requests))

    def both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.calls.append("Both")
        for each in requests:
            yield self.name + b":" + each

    def hang(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.calls.append("Hang")
        context.add_callback(self.cancelled.set)
        yield self.name
        self.hangs.set()
        self.cancelled.wait(30)

    def handler(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Down": grpc.unary_stream_rpc_method_handler(self.down),
                "Up": grpc.stream_unary_rpc_method_handler(self.up),
                "Both": grpc.stream_stream_rpc_method_handler(self.both),
                "Hang": grpc.unary_stream_rpc_method_handler(self.hang),
            },
        )


@contextmanager
def grpc_server(name: bytes, **options: Any) -> Iterator[tuple[Server, int]]:
    """(server, port)"""
    served = Server(name)
    named = [(f"grpc.{key}", value) for key, value in options.items()]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[*named, ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((served.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield served, port
    finally:
        server.stop(None).wait()
