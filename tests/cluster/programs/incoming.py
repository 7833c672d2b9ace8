"""What listens here in the place of the pod's application: incoming.py PORT, and apps for uvicorn and gunicorn."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Environ = dict[str, Any]


def words(name: str, method: str, path: str, client: str, port: int) -> bytes:
    line = f"{name} {method} {path} from {client} at {port}\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    return line.encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        said = words("python", self.command, self.path, self.client_address[0], port)
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None:
        """The line above says it."""


async def uvicorn(scope: Environ, receive: Any, send: Callable[[Environ], Awaitable[None]]) -> None:
    if scope["type"] == "http":
        said = words("uvicorn", scope["method"], scope["path"], scope["client"][0], scope["server"][1])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said})


def gunicorn(environ: Environ, start: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    port = environ["gunicorn.socket"].getsockname()[1]
    start("200 OK", [])
    return [words("gunicorn", environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["REMOTE_ADDR"], port)]


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
