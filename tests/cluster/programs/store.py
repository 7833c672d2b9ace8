"""Appends the body of each POST to FILE, behind a port: `store.py PORT FILE`."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Store(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        with open(sys.argv[2], "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()


HTTPServer(("", int(sys.argv[1])), Store).serve_forever()
