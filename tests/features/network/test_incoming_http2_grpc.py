"""gRPC through an exchange, with the servers and clients that everybody uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_there import SERVICE, Server, grpc_server
from http2_place import Filter, Place, place

TAKEN = (("x-take", "yes"),)


@pytest.fixture(name="application")
def application_fixture() -> Iterator[tuple[Server, int]]:
    with grpc_server(b"application") as there:
        yield there


@pytest.fixture(name="program")
def program_fixture() -> Iterator[tuple[Server, int]]:
    with grpc_server(b"program") as there:
        yield there


@pytest.fixture(name="there")
async def there_fixture(application: tuple[Server, int], program: tuple[Server, int]) -> AsyncIterator[Place]:
    async with place(application[1], program[1]) as there:
        yield there


@pytest.fixture(name="channel")
async def channel_fixture(there: Place) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        yield channel


def whose(taken: bool) -> tuple[bytes, Any]:
    return (b"program", TAKEN) if taken else (b"application", ())


@pytest.mark.parametrize("taken", [False, True])
async def test_unary(channel: Any, taken: bool) -> None:
    name, metadata = whose(taken)
    call = channel.unary_unary(f"/{SERVICE}/Unary")(b"hello", metadata=metadata)
    assert await call == name + b":hello"
    assert dict(await call.trailing_metadata()) == {"x-trailer": "last", "x-raw-bin": b"\x00\xff"}


@pytest.mark.parametrize("taken", [False, True])
async def test_an_error_keeps_its_words(channel: Any, taken: bool) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(f"/{SERVICE}/Unary")(b"fail", metadata=whose(taken)[1])
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details() == "as was asked: 100 %"


@pytest.mark.parametrize("taken", [False, True])
async def test_streams_of_each_kind(channel: Any, taken: bool) -> None:
    name, metadata = whose(taken)
    down = channel.unary_stream(f"/{SERVICE}/Down")(b"50", metadata=metadata)
    assert [each async for each in down] == [name + b":%d" % number for number in range(50)]
    up = channel.stream_unary(f"/{SERVICE}/Up")(iter([b"x" * 10000] * 50), metadata=metadata)
    assert await up == name + b":500000"
    both = channel.stream_stream(f"/{SERVICE}/Both")(metadata=metadata)
    for number in range(20):
        await both.write(b"%d" % number)
        assert await both.read() == name + b":%d" % number
    await both.done_writing()
    assert await both.read() == grpc.aio.EOF


async def test_calls_of_one_connection_are_decided_alone(
    there: Place, channel: Any, application: tuple[Server, int], program: tuple[Server, int]
) -> None:
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    answers = await asyncio.gather(
        *(unary(b"%d" % number, metadata=whose(number % 3 == 0)[1]) for number in range(100))
    )
    assert answers == [whose(number % 3 == 0)[0] + b":%d" % number for number in range(100)]
    assert (len(application[0].calls), len(program[0].calls), len(there.exchanges)) == (66, 34, 1)


@pytest.mark.parametrize("taken", [False, True])
async def test_a_cancellation_reaches_the_server(
    channel: Any, application: tuple[Server, int], program: tuple[Server, int], taken: bool
) -> None:
    server = (program if taken else application)[0]
    call = channel.unary_stream(f"/{SERVICE}/Hang")(b"", metadata=whose(taken)[1])
    assert await call.read() == server.name
    call.cancel()
    assert await asyncio.to_thread(server.cancelled.wait, 20)


@pytest.mark.parametrize("taken", [False, True])
async def test_a_deadline_passes(
    channel: Any, application: tuple[Server, int], program: tuple[Server, int], taken: bool
) -> None:
    server = (program if taken else application)[0]
    call = channel.unary_stream(f"/{SERVICE}/Hang")(b"", metadata=whose(taken)[1], timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        assert [each async for each in call] == [server.name]
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await asyncio.to_thread(server.cancelled.wait, 20)


async def test_a_program_that_is_not_there_is_said_to_be_unavailable(application: tuple[Server, int]) -> None:
    async with (
        place(application[1]) as there,
        grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel,
    ):
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await unary(b"hello", metadata=TAKEN)
        assert await unary(b"hello") == b"application:hello"
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "pymirror: the local program took this request" in (error.value.details() or "")


async def test_a_body_decides(application: tuple[Server, int], program: tuple[Server, int]) -> None:
    async with (
        place(application[1], program[1], filter=Filter(b"mine")) as there,
        grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel,
    ):
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        assert await unary(b"it is mine") == b"program:it is mine"
        assert await unary(b"it is not") == b"application:it is not"
        large = b"mine" * 50000
        assert await unary(large) == b"application:" + large
    assert there.said == ["no match: its body is longer than 65535 bytes"]


async def test_everything_ends_with_the_client(there: Place) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        call = channel.unary_stream(f"/{SERVICE}/Hang")(b"", metadata=TAKEN)
        assert await call.read() == b"program"
        del call  # it keeps the connection
    await there.until_over()
    assert there.over == 1
