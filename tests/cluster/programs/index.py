"""A package index over TLS: index.py PORT CERTIFICATE KEY, of the folder it runs in."""

from __future__ import annotations

import http.server
import ssl
import sys

port, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
with http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), http.server.SimpleHTTPRequestHandler) as server:
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
