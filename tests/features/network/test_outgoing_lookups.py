"""Names in the outgoing filter: who waits for their addresses, and how long these count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pymirror.features.network.names import Lookup
from pymirror.features.network.outgoing import lookups
from tests.helpers.hand_clock import settle


@pytest.fixture
async def made() -> AsyncIterator[lookups.Lookups]:
    """A resolver that finds another address each time, and nothing ever for `silent`."""
    lookup, asked = Lookup(), iter(range(1, 10))

    async def ask(name: str) -> frozenset[str]:
        if name == "silent":
            await asyncio.Event().wait()
        return frozenset({f"10.0.0.{next(asked)}"} if name == "db" else ())

    lookup.ask = ask
    found = lookups.Lookups(lookup)
    yield found
    await found.aclose()


async def test_the_first_waits_and_the_others_do_not(made: lookups.Lookups) -> None:
    assert made.known("db") is None
    await made.ask(["db", "nothing"])
    assert made.known("db") == {"10.0.0.1"} and made.known("nothing") == frozenset()


async def test_what_was_asked_at_the_start_is_known(made: lookups.Lookups) -> None:
    made.begin(["db", "silent"])
    await settle()
    assert made.known("db") == {"10.0.0.1"}


async def test_what_is_old_counts_until_the_new_is_there(
    made: lookups.Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "KEEP", -1.0)
    await made.ask(["db"])
    assert made.known("db") == {"10.0.0.1"}
    await settle()
    assert made.known("db") == {"10.0.0.2"}
    monkeypatch.setattr(lookups, "STALE", 1.0)
    assert made.known("db") is None


async def test_nobody_waits_longer_than_he_may(made: lookups.Lookups) -> None:
    await made.ask(["silent", "db"], within=0.0)
    assert made.known("silent") == frozenset()


async def test_what_does_not_resolve_is_told_once_however_often_it_is_tried(
    made: lookups.Lookups, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        await made.ask(["nothing"])
    assert caplog.text.count("nothing, of outgoing.filter, does not resolve") == 1


async def test_the_device_of_a_link_local_address_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(10, 1, 6, "", ("fe80::1%eth0", 0, 0, 7)), (2, 1, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    here = lookups.Lookups(Lookup())
    await here.ask(["printer"])
    assert here.known("printer") == {"fe80::1%7", "10.0.0.1"}
    await here.aclose()
