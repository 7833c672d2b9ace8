"""The layer's half of `network.incoming` in a session without a program: what comes is printed.

The agent copies as it does for a program. What stdout does not take stays in the streams' windows, so that
copies end, which is counted, and production goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from attrs import evolve

from pymirror.core.dumping import Dumping
from pymirror.core.errors import PeerError, UserError
from pymirror.core.feature import Launch, LayerFeature, Stream, handles
from pymirror.features.network.incoming import bpf
from pymirror.features.network.incoming import config as keys
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.print_bytes import Hex, Page, Printer, Text
from pymirror.features.network.incoming.print_http import Http, Place

READ = 64 << 10
PER_TURN = 4
"""Times a stream is read before the loop's turn is somebody else's."""
CROWDED = "more connections at once than feature.network.incoming.max_connections"


class Dump(LayerFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config

    @classmethod
    def rights(cls, config: keys.Config) -> frozenset[str]:
        return frozenset({"SYS_PTRACE", "SYS_ADMIN", "NET_RAW"})

    @classmethod
    def check(cls, config: keys.Config) -> None:
        if len(config.ports or ()) > bpf.MOST_PORTS:
            raise UserError(f"more than {bpf.MOST_PORTS} ports cannot be mirrored at once", "name fewer")

    async def prepare(self, launch: Launch) -> None:
        """UserError where a port may not be had."""
        self._asked = launch.shared(Dumping)
        self._asked.words, self._asked.out.freed = self._words, self._go_on
        self._page, self._place = Page(), Place(_now, asyncio.get_running_loop().time)
        self._open: dict[_Seen, None] = {}
        self._stalled: list[_Seen] = []
        self._enough = False
        self._counts: Counter[str] = Counter()
        self._missed: Counter[str] = Counter()
        await self.peer.request(m.Begin("pymirror dump"))
        for port in self._asked.order.ports:
            await self._subscribe(port, launch)
        launch.notes.append(keys.summary(evolve(self.config, ports=list(self._asked.order.ports))))

    async def aclose(self) -> None:
        for seen in list(getattr(self, "_open", ())):
            seen.close()

    async def _subscribe(self, port: int, launch: Launch) -> None:
        answer: m.Subscribed = await self.peer.request(m.Subscribe(port, exact=True))
        if answer.code:
            raise UserError(f"port {port} of the target: {answer.reason or os.strerror(answer.code)}")
        if answer.note:
            launch.notes.append(f"port {port} of the target: {answer.note}")

    @handles(m.Here)
    def here(self, asked: m.Here) -> m.Here:
        return asked

    @handles(m.Arrived)
    def arrived(self, arrived: m.Arrived, stream: Stream) -> None:
        if self._enough:
            stream.close()
            return
        if len(self._open) >= self.config.max_connections:
            self.missed(m.Missed(arrived.port, 1, CROWDED))
            stream.close()
            return
        self._counts["connections"] += 1
        seen = _Seen(self._counts["connections"], arrived, stream, self)
        self._open[seen] = None
        seen.begin()

    @handles(m.Missed)
    def missed(self, missed: m.Missed) -> None:
        if missed.reason not in self._missed:
            self.log.warning("copies end before their connections: %s", missed.reason)
        self._missed[missed.reason] += missed.connections

    # What a connection asks of it -------------------------------------------------------------

    def printer(self, number: int, arrived: m.Arrived) -> tuple[Printer, Http | None]:
        """And who answers in its stead, where HTTP/2 waits for that."""
        client, address = (
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in (
                (arrived.client, arrived.client_port),
                (arrived.address, arrived.address_port),
            )
        )
        copied = not self.config.http_filter.concerns(arrived.port)
        about: dict[str, Any] = {"connection": number, "client": client, "address": address}
        http = Http(self._place, about, copied)
        if self._asked.order.form == "http":
            return http, http
        form = Hex if self._asked.order.form == "hex" else Text
        return form(self._page, number, f"{client} to {address}"), None if copied else http

    def is_full(self, seen: _Seen) -> bool:
        """May it be read no more? It is told when it may again."""
        if self._asked.out.full:
            self._stalled.append(seen)
            return True
        return False

    def printed(self, data: bytes, size: int, requests: int) -> None:
        """Not beyond what was asked for, though more may have come at once."""
        left = self._asked.order.most - self._counts["requests"]
        if self._asked.order.form == "http" and self._asked.order.most and requests > left:
            requests, data = left, b"".join(data.splitlines(keepends=True)[:left])
        if self._enough:
            return
        if data:
            self._asked.out.write(data)
        self._counts["bytes"] += size
        self._count("requests", requests, self._asked.order.form == "http")

    def told(self, number: int) -> None:
        """It is no HTTP, or none any more."""
        if not self._counts["other"]:
            self.log.warning("connection %d speaks no HTTP that is known: --format text shows it", number)
        self._counts["other"] += 1

    def over(self, seen: _Seen) -> None:
        self._open.pop(seen, None)
        self._count("ended", 1, self._asked.order.form != "http")

    def _count(self, what: str, more: int, limits: bool) -> None:
        self._counts[what] += more
        if limits and self._asked.order.most and self._counts[what] >= self._asked.order.most:
            self._enough = True
            self._asked.enough()

    def _go_on(self) -> None:
        stalled, self._stalled = self._stalled, []
        for seen in stalled:
            seen.came()

    def _words(self) -> str:
        counts = self._counts
        found = [f"{counts['connections']} connections"]
        if counts["other"]:
            found[0] += f" ({counts['other']} of them without HTTP)"
        if self._asked.order.form == "http":
            found.append(f"{counts['requests']} requests")
        found.append(f"{counts['bytes']} bytes")
        lost = [f"{count} copies ended early: {why}" if count else why for why, count in self._missed.items()]
        return "; ".join([", ".join(found), *lost])


class _Seen:
    """A connection on its way to the page."""

    def __init__(self, number: int, arrived: m.Arrived, stream: Stream, owner: Dump) -> None:
        self._number, self._stream, self._owner = number, stream, owner
        self._over = self._told = False
        self._printer, self._http = owner.printer(number, arrived)
        self._again: asyncio.Handle | None = None

    def begin(self) -> None:
        self._stream.attach(self.came, self._answer)
        self._owner.printed(self._printer.begin(), 0, 0)
        self.came()

    def close(self) -> None:
        self._over = True
        self._stream.close()

    def came(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        try:
            for _ in range(PER_TURN):
                if self._over or self._owner.is_full(self):
                    return
                data = self._stream.read_now(READ)
                if not data:
                    self._end(True)
                    return
                self._print(self._printer.feed, data)
        except BlockingIOError:
            return
        except (OSError, PeerError):
            self._end(False)
            return
        self._again = asyncio.get_running_loop().call_soon(self.came)

    def _print(self, made: Callable[[bytes], bytes], data: bytes) -> None:
        before = self._http.count if self._http is not None else 0
        out = made(data)
        if self._http is not None and self._http is not self._printer:
            self._http.feed(data)
        self._owner.printed(out, len(data), self._http.count - before if self._http is not None else 0)
        if self._http is self._printer and self._http.other and not self._told:
            self._told = True
            self._owner.told(self._number)
        self._answer()

    def _answer(self) -> None:
        """Little, and of it what there is room for; the rest when there is more."""
        if self._http is None or not self._http.out or self._over:
            return
        try:
            sent = self._stream.write_now(bytes(self._http.out))
            del self._http.out[:sent]
        except (OSError, PeerError):
            self._end(False)

    def _end(self, whole: bool) -> None:
        if self._over:
            return
        self._over = True
        before = self._http.count if self._http is not None else 0
        out = self._printer.end(whole)
        self._owner.printed(out, 0, self._http.count - before if self._http is not None else 0)
        if whole:
            self._stream.end()
        else:
            self._stream.close()
        self._owner.over(self)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
