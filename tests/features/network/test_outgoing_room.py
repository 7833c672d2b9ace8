"""Where a connect waits: whom it takes for the program's socket, and when it ends."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from pymirror.core.limit import timeout
from pymirror.features.network.carry import BY_RESET
from pymirror.features.network.outgoing import room as rooms
from pymirror.features.network.outgoing.borrow import cookie_of
from pymirror.features.network.outgoing.looks import Look, Looks
from pymirror.features.network.outgoing.room import Room
from pymirror.features.network.outgoing.rooms import Rooms


async def true() -> bool:
    return True


async def nothing(*guest: int) -> None:
    return None


def connecting(room: Room) -> socket.socket:
    program = socket.socket()
    program.setblocking(False)
    assert program.connect_ex((room.address.host, room.address.port)) == errno.EINPROGRESS
    return program


async def met(act: Callable[[socket.socket, ExitStack], Any]) -> tuple[socket.socket | None, Any]:
    """What the room gives to a program's socket, and what `act` gave, which is called just before."""
    done = []
    with socket.socket() as program, ExitStack() as later:
        program.setblocking(False)
        program.bind(("127.0.0.1", 0))  # a port that no other connection shares
        room = Room(4, cookie_of(program), Looks())
        assert program.connect_ex((room.address.host, room.address.port)) == errno.EINPROGRESS

        async def now(*guest: int) -> Any:
            assert guest[1:] == (program.getsockname()[1], cookie_of(program))
            done.append(act(program, later))
            return done[0]

        return await room.joined(true(), now), done[0]


async def test_who_has_the_address_of_the_program_afterwards_is_not_met() -> None:
    def replaced(program: socket.socket, later: ExitStack) -> None:
        host, port = program.getsockname()
        program.close()
        later.enter_context(socket.create_server((host, port)))

    end, _ = await met(replaced)
    assert end is None


async def test_a_socket_that_is_closed_while_it_is_met_is_known_by_what_is_held() -> None:
    def closed(program: socket.socket, later: ExitStack) -> socket.socket:
        held = program.dup()
        program.close()
        return held

    end, held = await met(closed)
    assert end is not None and held.fileno() == -1
    with end:
        assert await asyncio.get_running_loop().sock_recv(end, 1) == b""  # its end


@pytest.mark.parametrize("protocol", [0, socket.IPPROTO_MPTCP], ids=["opened", "accepted"])
async def test_a_socket_that_is_met_ends_by_reset_until_it_is_joined(protocol: int) -> None:
    try:
        program = socket.socket(proto=protocol)
    except OSError:
        pytest.skip("this kernel has no MPTCP")
    with program:
        program.setblocking(False)
        room = Room(4, cookie_of(program), Looks())
        assert program.connect_ex((room.address.host, room.address.port)) == errno.EINPROGRESS
        async with timeout(30):
            end = await room.joined(true(), nothing)
        assert end is not None
        with end:
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == BY_RESET


async def test_a_program_that_never_comes_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "LONGEST", 1)
    with socket.socket() as elsewhere:
        room = Room(4, cookie_of(elsewhere), Looks())
        with connecting(room):  # a stranger
            assert await room.joined(true(), nothing) is None
    with socket.socket() as asking:  # and the room is no more
        assert asking.connect_ex((room.address.host, room.address.port)) == errno.ECONNREFUSED


async def test_one_look_answers_all_who_wait_for_it() -> None:
    made: list[Look] = []

    def look() -> Look:
        made.append(Look())
        return made[-1]

    looks = Looks(look)
    waiting = [asyncio.ensure_future(looks.after(2)) for _ in range(100)]
    waiting[0].cancel()  # costs the others nothing
    assert set(await asyncio.gather(*waiting[1:])) <= set(made)
    assert len(made) <= 2  # the next begins where its time has come meanwhile


async def test_a_table_that_is_not_told_ends_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    def untold() -> Look:
        raise PermissionError(errno.EPERM, "sock_diag")

    ended: asyncio.Queue[None] = asyncio.Queue()
    waiting = Rooms(nothing, Looks(untold))
    for _ in range(3):
        waiting.take(4, 1, true(), lambda sock: None, lambda: ended.put_nowait(None))
    async with timeout(30):
        for _ in range(3):
            await ended.get()
    assert caplog.text.count("a connection that was being made is lost") == 1


async def test_a_meeting_that_is_given_up_ends_before_its_sockets_are_closed() -> None:
    """Else what it has the loop watch could be another's by then."""
    meets = asyncio.Event()
    open_: list[bool] = []

    async def never(*guest: int) -> None:
        meets.set()
        try:
            await asyncio.Event().wait()
        finally:
            open_.append(room._listener.fileno() >= 0)

    with socket.socket() as program:
        program.setblocking(False)
        room = Room(4, cookie_of(program), Looks())
        assert program.connect_ex((room.address.host, room.address.port)) == errno.EINPROGRESS
        waits = asyncio.ensure_future(room.joined(true(), never))
        await meets.wait()
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert open_ == [True] and room._listener.fileno() < 0


async def test_before_the_end_of_the_session_those_who_meet_have_met() -> None:
    meets, goes_on, met = asyncio.Event(), asyncio.Event(), list[socket.socket]()

    async def hold(*guest: int) -> None:
        meets.set()
        await goes_on.wait()

    waiting = Rooms(hold, Looks())
    with socket.socket() as program, socket.socket() as elsewhere:
        program.setblocking(False)
        place = waiting.take(4, cookie_of(program), true(), met.append, lambda: None)
        waiting.take(4, cookie_of(elsewhere), true(), met.append, lambda: None)  # for which nobody waits
        assert program.connect_ex((place.host, place.port)) == errno.EINPROGRESS
        await meets.wait()
        asyncio.get_running_loop().call_soon(goes_on.set)
        await waiting.settle()
        assert [end.getpeername() for end in met] == [program.getsockname()] and len(waiting.waiting) == 1
        met[0].close()
        await waiting.aclose()


async def test_the_end_of_the_session_ends_every_wait() -> None:
    ended: list[bool] = []
    waiting = Rooms(nothing, Looks())
    for number in range(3):
        waiting.take(4, number, true(), lambda sock: None, lambda: ended.append(True))
    await waiting.aclose()
    assert ended == [True] * 3 and not waiting.waiting
