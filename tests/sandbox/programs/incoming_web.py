"""A web server: `incoming_web.py NAME PORT`; says "up", answers `NAME PATH CLIENT`, and prints `PATH CLIENT`."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT = sys.argv[1], int(sys.argv[2])


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        client = self.client_address[0].removeprefix("::ffff:")
        body = f"{NAME} {self.path} {client}".encode()
        print(self.path, client, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


with Server(("::", PORT), Handler) as server:
    print("up", flush=True)
    server.serve_forever()
