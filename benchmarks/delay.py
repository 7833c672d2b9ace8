"""A delay of so many milliseconds each way in front of an address, by toxiproxy. Needs Go for its first use.

Toxiproxy delays in user space: TCP on either side of it sees none, so windows of the kernel never bound what
passes. What goes through it is not faster than it is, so what is compared goes through it too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

VERSION = "v2.12.0"
SERVER = f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"
READY_WITHIN = 10.0


@frozen
class Delay:
    """A running toxiproxy. api: where it is asked; ms: the delay each way of what `before` makes."""

    api: str
    ms: int

    def before(self, upstream: str) -> str:
        """The address of this machine that leads to `upstream`, each way `ms` later."""
        proxy = self._ask("/proxies", name=upstream, listen="127.0.0.1:0", upstream=upstream, enabled=True)
        for way in ("upstream", "downstream"):
            path = f"/proxies/{upstream}/toxics"
            self._ask(path, name=way, type="latency", stream=way, attributes={"latency": self.ms})
        return str(proxy["listen"])

    def _ask(self, path: str, **what: Any) -> Any:
        asked = urllib.request.Request(self.api + path, json.dumps(what).encode())
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)


def binary() -> Path:
    """Compiled once, kept outside the checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"toxiproxy-{VERSION}"
    if not (cache / "server").exists():
        environ = {**os.environ, "GOBIN": str(cache), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        subprocess.run(["go", "install", SERVER], env=environ, check=True)
    return cache / "server"


@contextmanager
def delay(ms: int) -> Iterator[Delay]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(binary()), "-host", "127.0.0.1", "-port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            _answers(port)
            yield Delay(f"http://127.0.0.1:{port}", ms)
        finally:
            running.terminate()


def _answers(port: int) -> None:
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
