"""A web server, by TLS: `tls_web.py NAME PORT [CERTIFICATE KEY]`; says "up", answers as incoming_web.py.

`/big/N`: N bytes. A POST is answered with the number of its bytes and their hash.
"""

import hashlib
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT, *FILES = sys.argv[1:]
PIECE = bytes(range(256)) * 256


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    context = None

    def get_request(self):
        sock, client = super().get_request()
        if self.context is not None:
            sock = self.context.wrap_socket(sock, True, do_handshake_on_connect=False)
        return sock, client

    def handle_error(self, *_):
        print("failed", flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/big/"):
            left = int(self.path.rpartition("/")[2])
            self.begin(left)
            while left:
                left -= self.wfile.write(PIECE[:left])
            return
        client = self.client_address[0].removeprefix("::ffff:")
        self.answer(f"{NAME} {self.path} {client}")

    def do_POST(self):
        size, found = int(self.headers["Content-Length"]), hashlib.sha256()
        left = size
        while left:
            data = self.rfile.read(min(left, 65536))
            found.update(data)
            left -= len(data)
        self.answer(f"{NAME} {size} {found.hexdigest()}")

    def answer(self, words):
        body = words.encode()
        self.begin(len(body))
        self.wfile.write(body)

    def begin(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_):
        pass


if FILES:
    Server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Server.context.load_cert_chain(*FILES)
    Server.context.set_alpn_protocols(["http/1.1"])
try:
    server = Server(("::", int(PORT)), Handler)
except OSError as error:
    sys.exit(f"no server: {error.strerror}")
print("up", flush=True)
server.serve_forever()
