from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture
def served() -> Any:
    """A server in this process; the program is another, so the port is nobody's of the program."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
