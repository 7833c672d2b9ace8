"""The layer's half of `network.dns`: the program's resolvers ask the relay and read the target's files.

Traffic to port 53 is taken whatever its address, four files are shown as the target has them, and
short-cuts past both (nscd, systemd-resolved) are not there for the program.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from pymirror.core.call import (
    PATH_CALLS,
    SOCKET_CALLS,
    Address,
    Call,
    Errno,
    OtherAddress,
    OtherPath,
    Scope,
    Untouched,
    Verdict,
)
from pymirror.core.feature import Launch, LayerFeature, handles, intercepts
from pymirror.features.network.dns import config as keys
from pymirror.features.network.dns import messages as m
from pymirror.features.network.dns.cache import Cache
from pymirror.features.network.dns.lookupfiles import Resolv, host_lines, parse_resolv, servers_in_turn
from pymirror.features.network.dns.names import Decision, Rules, spoken
from pymirror.features.network.dns.snapshot import Snapshot
from pymirror.features.network.dns.upstream import PORT, Upstream, here
from pymirror.features.network.dns.view import View
from pymirror.features.network.filter import parse
from pymirror.features.network.names import Lookup, Names, OutgoingFilter

SHORT_CUTS = (
    b"/run/nscd/socket",
    b"/var/run/nscd/socket",
    b"/run/systemd/resolve/io.systemd.Resolve",
    b"/var/run/systemd/resolve/io.systemd.Resolve",
)
"""Sockets of services of this machine that resolve names for a program."""

OFF = "network.dns is off"
OUTGOING = "network.outgoing"

MOST_HOSTS = 1000
"""Entries of the hosts file that are remembered for the outgoing filter."""


class Layer(LayerFeature):
    name = m.NAME
    before = ("fs", OUTGOING)  # whose are all other paths, and all other ports
    Config = keys.Config
    config: keys.Config
    _view: View | None = None
    _joined: tuple[Sequence[str], bool] = ((), True)

    @classmethod
    def rights(cls, config: keys.Config) -> frozenset[str]:
        """To read the files below its root, and to enter its network."""
        return frozenset({"SYS_PTRACE", "SYS_ADMIN"}) if config.is_on else frozenset()

    @classmethod
    def explain(cls, config: keys.Config, call: Call) -> Verdict | None:
        return cls.explain_among(config, call, {})

    @classmethod
    def explain_among(cls, config: keys.Config, call: Call, others: Mapping[str, Any]) -> Verdict | None:
        """The names of the outgoing filter join (see Rules.with_outgoing); the search list is not known."""
        if call.name in SOCKET_CALLS:
            return of_socket(call, config.is_on, lambda: servers_in_turn(_resolv(_this_machine()), 0))
        if call.name != "name":
            return of_path(call, -1, config.is_on)
        if not config.is_on:
            return Untouched(OFF)
        rules = Rules.of(config.filter)
        outgoing = getattr(others.get(OUTGOING), "filter", None)
        if outgoing is not None:
            rules = rules.with_outgoing(outgoing.entries, outgoing.remote is None)
        decision = rules.foretell(os.fsdecode(call.path))
        return Untouched(decision.reason) if decision.here else Verdict(decision.reason)

    async def prepare(self, launch: Launch) -> None:
        """Fetch the files and open the relay. OSError as the agent met it."""
        self._own = _this_machine()
        if self.config.is_on:
            await self._open(launch)
        root = self._view.root if self._view is not None else -1
        for path in m.PATHS:
            for name in PATH_CALLS:
                for follow in (True, False):
                    call = Call(name, path, follow=follow)
                    launch.known.append((call, of_path(call, root, self.config.is_on)))
        launch.notes.append(f"names: {_summary(self.config)}")
        launch.shared(OutgoingFilter).listen(functools.partial(self._outgoing, launch))

    async def _open(self, launch: Launch) -> None:
        # Here and not above: they bring dnspython, which a session without names need not wait for.
        from pymirror.features.network.dns.answers import Answers
        from pymirror.features.network.dns.relay import Relays

        self._names = launch.shared(Names)
        self._upstream = Upstream(here)
        self._view = View(
            os.path.join(launch.directory, "names"),
            {path: _text(self._own.file(path)) for path in (m.HOSTS, m.NSSWITCH)},
        )
        self._answers = Answers(
            self._ask_target,
            self._ask_here,
            self._learned,
            Cache(self.config.cache),
            time.monotonic,
            decided=functools.partial(_traced, launch),
        )
        launch.shared(Lookup).ask = self._look_up
        self._relays = Relays(self._answers.answer, lambda host: host in self._servers)
        answer: m.Files = await self.peer.request(m.AskFiles())
        self._show(answer.files)

    async def aclose(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            await self._relays.aclose()
            await self._answers.aclose()
            self._upstream.close()
            view.close()

    @handles(m.Files)
    async def files(self, news: m.Files) -> None:
        """The target's files have changed."""
        self._show(news.files)

    @intercepts(*PATH_CALLS, pure=True)
    def path(self, call: Call) -> Verdict | None:
        return of_path(call, self._view.root if self._view is not None else -1, self.config.is_on)

    @intercepts(*SOCKET_CALLS)
    def socket(self, call: Call) -> Verdict | Awaitable[Verdict | None] | None:
        found = of_socket(call, self.config.is_on, lambda: servers_in_turn(_resolv(self._own), 0))
        if call.address is None or not isinstance(found, OtherAddress):
            return found
        if self._view is None:
            return Errno("network.dns: the session is over", code=errno.EIO)
        return self._ours(call, call.address, found)

    async def _ours(self, call: Call, address: Address, found: OtherAddress) -> Verdict | None:
        relay = await self._relays.address(address.host, call.transport)
        if relay is None:
            return None
        return evolve(found, relay=relay, introduction=self._relays.words)

    def _show(self, files: Iterable[m.File]) -> None:
        if self._view is None:
            return
        before = self._view.resolv
        self._view.take(files)
        resolv = self._view.resolv
        self._servers = frozenset(servers_in_turn(resolv, 0))
        if resolv.servers != before.servers:
            self._answers.cache.clear()
        rules = Rules.of(self.config.filter, resolv.search)
        self._answers.rules = rules.with_outgoing(*self._joined)
        self._view.show(self._answers.rules)
        for number, (address, names, _) in enumerate(host_lines(self._view.hosts)):
            if number >= MOST_HOSTS:
                break
            for name in names:
                self._learned(name, [address], self._answers.rules.decide(name).here)

    def _outgoing(self, launch: Launch, entries: Sequence[str], here: bool) -> None:
        if not self.config.is_on:
            if not here and any(parse(text).name for text in entries):
                launch.notes.append(
                    "names: those of feature.network.outgoing.filter.remote mean what this machine takes "
                    "them for, as feature.network.dns is off"
                )
            return
        if self._answers.rules.opposes(entries, here):
            launch.notes.append(
                "names: the outgoing filter names the other side's; they are resolved where "
                "feature.network.dns.filter says"
            )
        self._joined = (entries, here)
        self._show([])

    async def _look_up(self, name: str) -> frozenset[str]:
        from pymirror.features.network.dns.lookup import addresses

        if self._view is None:
            return frozenset()
        return await addresses(name, self._view.sources, self._view.hosts, self._view.resolv, self._ask)

    async def _ask(self, query: bytes, tcp: bool) -> bytes:
        answer = await self._answers.answer(query, "", tcp)
        assert answer is not None  # only what is no query has none
        return answer

    async def _ask_target(self, query: bytes, server: str, tcp: bool) -> bytes:
        answer: m.Answer = await self.peer.request(m.Query(query, server, tcp))
        return bytes(answer.wire)

    async def _ask_here(self, query: bytes, server: str, tcp: bool) -> bytes:
        resolv = _resolv(self._own)
        servers = (server,) if server else servers_in_turn(resolv, 0)
        return await self._upstream.ask(query, servers, resolv.timeout, resolv.attempts, tcp or resolv.tcp)

    def _learned(self, name: str, addresses: Iterable[str], here: bool) -> None:
        known = list(addresses)
        self._names.answered(name, known, here)
        for form in spoken(name, self._answers.rules.search):
            self._names.learned(form, known)


def of_path(call: Call, root: int, on: bool) -> Verdict | None:
    """What is decided of one of PATH_CALLS; root: descriptor of the folder of the files.

    Turned off, resolvers read this machine's files, whatever `fs` shows: its name servers could not
    be reached with the target's.
    """
    if call.name not in PATH_CALLS or call.path not in m.PATHS or call.write:
        return None
    if not on:
        return Untouched(f"{OFF}: resolvers read this machine's", scope=Scope.CALL)
    reason = "network.dns: resolvers read the target's"
    return OtherPath(reason, root=root, path=call.path[1:], scope=Scope.CALL)


def of_socket(call: Call, on: bool, own: Callable[[], Sequence[str]]) -> Verdict | None:
    """What is decided of one of SOCKET_CALLS; OtherAddress: a relay, which is still to be named.

    own: this machine's name servers, asked for where they matter.
    """
    if call.address is None:
        if on and call.name == "connect" and call.path in SHORT_CUTS:
            return Errno("network.dns: this machine's resolver is not the target's", code=errno.ENOENT)
        return None
    if call.address.port != PORT or call.device:  # no relay of ours can be reached from a device
        return None
    if on:
        return OtherAddress("network.dns: port 53", relay=b"")
    return Untouched(f"{OFF}: this machine's name server") if call.address.host in own() else None


def _this_machine() -> Snapshot:
    return Snapshot(functools.partial(os.open, flags=os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def _resolv(files: Snapshot) -> Resolv:
    return parse_resolv(files.file(m.RESOLV).content.decode("utf-8", "replace"))


def _text(file: m.File) -> str | None:
    return file.content.decode("utf-8", "surrogateescape") if file.there else None


def _summary(config: keys.Config) -> str:
    if not config.is_on:
        return "resolved on this machine"
    if config.filter is None or not config.filter.entries:
        return "resolved by the target"
    count = len(config.filter.entries)
    if config.filter.remote is not None:
        return f"resolved by the target for {count} entries of the filter, else here"
    return f"resolved by the target, except {count} entries of the filter"


def _traced(launch: Launch, name: str, decision: Decision) -> None:
    """Which side a name is asked for: the program's own call shows its question alone."""
    here = Untouched(decision.reason)
    verdict = here if decision.here else OtherAddress(decision.reason, relay=b"")
    launch.trace(Call("name", os.fsencode(name)), verdict)
