from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from incoming_scene import Made, Scene


@pytest.fixture
def served() -> Any:
    """A server in this process; the program is another, so the port is nobody's of the program."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Made]:
    """Makes scenes, and closes what is open of them."""
    scenes: list[Scene] = []

    def make(*args: object, **named: object) -> Scene:
        scenes.append(Scene(*args, **named))  # type: ignore[arg-type]
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()
