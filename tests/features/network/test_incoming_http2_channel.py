"""The program's connection is a stream of the channel, as in a session; its other end is joined to the program."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc_there import SERVICE, Server, grpc_server
from http2_place import Place, place

from pymirror.core.channel import Channel, Keys
from pymirror.core.feature import Stream, handles
from pymirror.features.network.carry import Join, join
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.messages import NAME, Arrived

TAKEN = (("x-take", "yes"),)
LARGE = 2 << 20


class Doors:
    """The layer's part: each connection that arrived is made to the program."""

    def __init__(self, port: int) -> None:
        self.port, self.joins = port, list[Join]()

    @handles(Arrived)
    async def arrived(self, _: Arrived, stream: Stream) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            stream.close()
        else:
            self.joins.append(join(sock, stream, lambda: None))


@pytest.fixture(name="program")
def program_fixture() -> Any:
    with grpc_server(b"program") as there:
        yield there


@pytest.fixture(name="doors")
def doors_fixture(program: tuple[Server, int]) -> Doors:
    return Doors(program[1])


@pytest.fixture(name="there")
async def there_fixture(doors: Doors) -> AsyncIterator[Place]:
    agent_keys, layer_keys = Keys.generate(), Keys.generate()
    agent = Channel.listen(agent_keys, layer_keys.public)
    layer = await Channel.connect(f"tcp://127.0.0.1:{agent.port}", layer_keys, agent_keys.public)
    layer.serve(NAME, doors)

    def program_stream(given: Any) -> None:
        given(agent.peer(NAME).stream_now(Arrived(80, "10.0.0.1", 1, "10.0.0.2", 80)))

    with grpc_server(b"application") as application:
        async with place(application[1], program_stream) as there:
            yield there
        assert BUDGET.held == 0
    for each in doors.joins:
        each.cancel()
    await layer.aclose()
    await agent.aclose()


async def test_calls_over_the_channel(there: Place) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        names = {0: b"application:", 1: b"program:"}
        answers = await asyncio.gather(
            *(unary(b"%d" % each, metadata=TAKEN if each % 2 else ()) for each in range(100))
        )
        assert answers == [names[each % 2] + b"%d" % each for each in range(100)]
        large = bytes(LARGE)
        assert await unary(large, metadata=TAKEN) == b"program:" + large


async def test_a_program_that_nobody_reaches(there: Place, doors: Doors) -> None:
    doors.port = 1
    async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary(f"/{SERVICE}/Unary")(b"", metadata=TAKEN)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "pymirror: the local program took this request" in (error.value.details() or "")
