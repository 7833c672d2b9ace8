"""The pump's guests as a table, and what a verdict on bind and listen may be."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator

import pytest

from pymirror.core.call import Address, Bind, Call, Errno, OtherAddress, Untouched
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeGuests
from pymirror.layer.engines.seccomp import native
from pymirror.layer.engines.seccomp.engine import Engine, _fitting

INET, INET6 = socket.AF_INET, socket.AF_INET6
DOOR, DOOR6 = Address("127.0.0.1", 5000), Address("::1", 5000)
CLIENT, CLIENT6 = Address("10.1.2.3", 40000), Address("fd00::3", 40001)
SPOKEN, SPOKEN6 = Address("10.9.9.9", 80), Address("fd00::9", 80)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    yield made
    await made.aclose()


def told(engine: Engine, peer: Address, domain: int) -> tuple[object, object]:
    return engine._pump.guest(peer, domain, True), engine._pump.guest(peer, domain, False)


async def test_a_guest_is_told_by_its_door(engine: Engine) -> None:
    assert told(engine, DOOR, INET) == (None, None)
    engine.guests.add(DOOR, CLIENT, SPOKEN)
    assert told(engine, DOOR, INET) == (CLIENT, SPOKEN)
    assert told(engine, DOOR, INET6) == (CLIENT, SPOKEN)  # IPv4-mapped, as such a socket's peer is
    for other in (DOOR6, Address("127.0.0.1", 5001), Address("127.0.0.2", 5000)):
        assert told(engine, other, INET6) == (None, None)


async def test_a_guest_goes_and_its_port_may_be_anothers(engine: Engine) -> None:
    engine.guests.add(DOOR, CLIENT, SPOKEN)
    engine.guests.add(DOOR, Address("10.1.2.4", 1), SPOKEN)
    assert told(engine, DOOR, INET)[0] == Address("10.1.2.4", 1)
    engine.guests.remove(DOOR)
    engine.guests.remove(DOOR)
    assert told(engine, DOOR, INET) == (None, None)
    engine.guests.add(DOOR, CLIENT, SPOKEN)
    assert told(engine, DOOR, INET) == (CLIENT, SPOKEN)


async def test_an_ipv4_socket_cannot_be_told_of_an_ipv6_client(engine: Engine) -> None:
    engine.guests.add(DOOR, CLIENT6, SPOKEN6)
    engine.guests.add(DOOR6, CLIENT6, SPOKEN6)
    assert told(engine, DOOR, INET) == (None, None)
    assert told(engine, DOOR, INET6) == told(engine, DOOR6, INET6) == (CLIENT6, SPOKEN6)


async def test_every_port_has_room(engine: Engine) -> None:
    for port in range(1, 65536):
        engine.guests.add(Address("127.0.0.1", port), Address("10.1.2.3", port), SPOKEN)
    assert told(engine, Address("127.0.0.1", 65535), INET)[0] == Address("10.1.2.3", 65535)
    assert told(engine, Address("127.0.0.1", 1), INET)[0] == Address("10.1.2.3", 1)


def test_for_tests_of_features_there_is_a_fake() -> None:
    guests = FakeGuests()
    launch = Launch([], {}, "", guests=guests)
    launch.guests.add(DOOR, CLIENT, SPOKEN)
    assert guests.known == {DOOR: (CLIENT, SPOKEN)}
    launch.guests.remove(DOOR)
    launch.guests.remove(DOOR)
    assert not guests.known


def test_tries_are_written_for_the_sockets_family() -> None:
    answer = native.answer_of(Bind("rule", tries=(SPOKEN, DOOR)), INET)
    assert (answer.verdict, answer.value[0], len(answer.value)) == (native.lib.PM_TRIES, 16, 34)
    assert len(native.answer_of(Bind("rule", tries=(SPOKEN,)), INET6).value) == 29


@pytest.mark.parametrize("tries", [(), (SPOKEN,) * 17, (SPOKEN6,)])
def test_tries_that_are_none_too_many_or_of_another_family_are_refused(tries: tuple[Address, ...]) -> None:
    with pytest.raises(ValueError, match=r"to try|IPv4 socket"):
        native.answer_of(Bind("rule", tries=tries), INET)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("listen", Bind("rule", tries=(DOOR,))),
        ("connect", Bind("rule", tries=(DOOR,))),
        ("bind", OtherAddress("rule", relay=DOOR)),
    ],
)
def test_a_verdict_that_answers_another_call_is_eio(name: str, verdict: Bind | OtherAddress) -> None:
    found = _fitting(Call(name, transport="tcp"), verdict)
    assert isinstance(found, Errno) and found.code == errno.EIO and name in found.reason


def test_what_answers_bind_and_listen_does() -> None:
    bind, no = Bind("rule", tries=(DOOR,)), Errno("rule", code=errno.EADDRINUSE)
    assert _fitting(Call("bind", transport="tcp"), bind) is bind
    assert [_fitting(Call("listen", transport="tcp"), each) for each in (no, Untouched("rule"))] == [
        no,
        Untouched("rule"),
    ]
