"""What requests within TLS cost on a filtered port: `python benchmarks/tls.py [--json FILE]`.

As steal.py, with a server and a client of Go, TLS 1.3, keys of P-256, no session resumed. Needs go, openssl.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figure import Figure, parser, publish
from steal import ALWAYS, NEVER, PORT, Case, measured, served

HERE = Path(__file__).parent
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
CASES = {"TLS, passed on, no match": NEVER, "TLS, taken by a filter": ALWAYS}


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        program, certificate, key = (Path(folder) / name for name in ("web", "tls.crt", "tls.key"))
        words = ("-keyout", key, "-out", certificate, "-subj", "/CN=web", "-days", "2")
        subprocess.run(["openssl", "req", "-x509", *KEY, *words], check=True, capture_output=True)
        environ = {**os.environ, "CGO_ENABLED": "0"}
        subprocess.run(["go", "build", "-o", program, HERE / "tls.go"], check=True, env=environ)
        os.environ.update(CERTIFICATE=str(certificate), KEY=str(key))
        entry = {"ports": int(PORT), "certificate": str(certificate), "key": str(key)}
        with served(program) as (target, client):
            for name, chosen in CASES.items():
                case = Case(name, {"mode": "steal", "http_filter": chosen}, agent={"tls": entry})
                for kind in ("keep", "new"):
                    yield from measured(case, kind, target, client, program)


if __name__ == "__main__":
    order = parser(__doc__).parse_args()
    publish(figures(), order.json)
