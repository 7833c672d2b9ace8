"""curl and http.client through an exchange to two real servers, one of which is the local program."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import pytest_asyncio
from incoming_scene import ByPath

from pymirror.features.network.incoming.exchange import Exchange
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Given
from pymirror.features.network.incoming.pipe import Pipe

pytestmark = pytest.mark.asyncio


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        said = f"{self.name} {self.command} {self.path} {self.client_address[1]} ".encode() + self._body()
        self.send_response(200)
        if self.path.endswith("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(said), 7):
                part = said[at : at + 7]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path.endswith("eof"):
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        return


@contextlib.contextmanager
def served(name: str) -> Iterator[int]:
    handler = type("Named", (Handler,), {"name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    """Of a listener in front of both."""
    loop, open_ = asyncio.get_running_loop(), set[Exchange]()
    with served("application") as application, served("program") as program:

        def opener(to: int, given: Given) -> None:
            sock = socket.create_connection(("127.0.0.1", to))
            sock.setblocking(False)
            given(Pipe(sock))

        async def accept(listener: socket.socket) -> None:
            while True:
                client, _ = await loop.sock_accept(listener)
                open_.add(
                    Exchange(
                        Pipe(client),
                        lambda given: opener(application, given),
                        lambda given: opener(program, given),
                        ByPath(needs_body=True),
                        Limits(),
                        print,
                        lambda: None,
                    )
                )

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.ensure_future(accept(listener))
            yield listener.getsockname()[1]
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
        for exchange in open_:
            exchange.cancel()


def talk(port: int) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    found = []
    for method, path, body in [
        ("GET", "/a", None),
        ("GET", "/p/chunked", None),
        ("HEAD", "/p", None),
        ("POST", "/p", b"x" * 200_000),
        ("PUT", "/a/chunked", iter([b"one", b"two"])),
        ("POST", "/body", b"{a}"),
        ("POST", "/body", b"{p}"),
        ("GET", "/a", None),
        ("GET", "/p/eof", None),
    ]:
        chunked = body is not None and not isinstance(body, bytes)
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        connection.request(method, path, body, headers, encode_chunked=chunked)
        words = connection.getresponse().read().decode().split(" ")
        found.append(" ".join([*words[:1], *words[4:]])[:30])
    connection.close()
    return found


async def test_one_connection_to_both(port: int) -> None:
    said = await asyncio.get_running_loop().run_in_executor(None, talk, port)
    assert said == [
        "application ",
        "program ",
        "",
        "program " + "x" * 22,
        "application onetwo",
        "application {a}",
        "program {p}",
        "application ",
        "program ",
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    run = [f"{url}/a", f"{url}/p", f"{url}/a/chunked", "--next", "-d", "y" * 5000, f"{url}/p/post"]
    run += ["--next", "-d", "p" * 5000, "-H", "Expect: 100-continue", f"{url}/body"]
    run += ["--next", "--http2", f"{url}/a/h2c"]
    command = ["curl", "-sS", "--max-time", "20", *run]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert not done.stderr
    words = (
        done.stdout.replace("application", "\napplication").replace("program", "\nprogram").split("\n")[1:]
    )
    parts = [word.split(" ") for word in words]
    assert [(p[0], p[2]) for p in parts] == [
        ("application", "/a"),
        ("program", "/p"),
        ("application", "/a/chunked"),
        ("program", "/p/post"),
        ("program", "/body"),
        ("application", "/a/h2c"),
    ]
    assert len({p[3] for p in parts if p[0] == "application"}) == 1  # one connection to each
    assert len({p[3] for p in parts if p[0] == "program"}) == 1
