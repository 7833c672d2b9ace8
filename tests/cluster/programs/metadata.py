"""A cloud's metadata service that speaks IMDSv2 alone: metadata.py ADDRESS KEY.

KEY: the access key of its one role, by which its clients can be seen to have spoken to this one.
"""

from __future__ import annotations

import http.server
import json
import secrets
import sys

ROLES = "/latest/meta-data/iam/security-credentials/"
TOKENS: set[str | None] = set()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "60")
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        if self.path != "/latest/api/token" or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            return self.answer(400)
        token = secrets.token_urlsafe(32)
        TOKENS.add(token)
        self.answer(200, token)

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] not in TOKENS:
            return self.answer(401)
        if self.path == ROLES:
            return self.answer(200, "app")
        if self.path != f"{ROLES}app":
            return self.answer(404)
        keys = {"AccessKeyId": sys.argv[2], "SecretAccessKey": "secret", "Token": "session"}
        about = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2020-01-01T00:00:00Z"}
        self.answer(200, json.dumps({**about, **keys, "Expiration": "2099-01-01T00:00:00Z"}))


with http.server.ThreadingHTTPServer((sys.argv[1], 80), Handler) as server:
    print("up", flush=True)
    server.serve_forever()
