"""The layer's half of `network.incoming`: which listeners stand for a port of the target, and for how long.

A subscription is for a port of the target. It begins with the first `listen`, and ends when the kernel
knows no listening socket any more that stands for it: neither `dup` nor `fork` nor a listener that is
given away is followed.
"""

from __future__ import annotations

import asyncio
import errno
import getpass
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from attrs import define, evolve

from pymirror.core.call import Call, Errno, Untouched, Verdict
from pymirror.core.errors import PeerError
from pymirror.core.feature import Launch, LayerFeature, Process, Stream, handles, intercepts
from pymirror.features.network import debuggers, listeners, sockdiag
from pymirror.features.network.incoming import config as keys
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.delivery import Deliveries
from pymirror.features.network.incoming.doors import WITHIN, Doors
from pymirror.features.network.incoming.health import warning
from pymirror.features.network.incoming.rules import Facts, Rules
from pymirror.features.network.ports import Listener, Ports

MARK = "PYMIRROR_SESSION"
"""In the environment of each process of the program, with this session's own value."""
EVERY = 1.0
"""Seconds between two looks at which listeners are still there."""
SHARE = 4
"""Connections at once: one for so many descriptors of this process."""


@define(eq=False)
class _Watched:
    """A listener, and what the kernel said of it. until: it must listen by then, by the loop's clock.

    born: its port has listened; known: the socket itself. MPTCP's are listed under numbers of their own.
    """

    listener: Listener
    until: float
    born: bool = False
    known: bool = False

    def is_gone(self, cookies: Collection[int], now: float) -> bool:
        """cookies: of what listens on its port."""
        known = self.listener.socket in cookies
        if known or (cookies and not self.known):
            self.born, self.known = True, self.known or known
            return False
        return self.born or now > self.until


class _Now(Facts):
    """What is true now, on this machine."""

    def __init__(self, ours: listeners.Listeners, ports: Ports) -> None:
        self._ours, self._ports = ours, ports

    def listens(self, port: int) -> str:
        return self._ours.of("tcp", port)

    def asked(self, port: int) -> list[Listener]:
        return [each for each in self._ports.asked(port) if _listening(each.real.port)]


class _Unasked(Facts):
    """For `explain`, which looks at nothing but the configuration."""

    def listens(self, port: int) -> str:
        return ""

    def asked(self, port: int) -> list[Listener]:
        return []


class Layer(LayerFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config
    _doors: Doors | None = None
    _watching: asyncio.TimerHandle | None = None

    @classmethod
    def wanted(cls, config: keys.Config) -> bool:
        return config.mode != "off"

    @classmethod
    def rights(cls, config: keys.Config) -> frozenset[str]:
        """To enter the target's network namespace, and to redirect or to copy there."""
        taking = "NET_ADMIN" if config.mode == "steal" else "NET_RAW"
        reading = {"DAC_OVERRIDE"} if config.tls else set()  # keys are for their owner alone
        return frozenset({"SYS_PTRACE", "SYS_ADMIN", taking, *reading})

    @classmethod
    def lasting(cls, config: keys.Config) -> float:
        return config.drain if config.mode == "steal" else 0.0

    @classmethod
    def check(cls, config: keys.Config) -> None:
        """UserError for files that the program's certificate is to be checked by."""
        Deliveries(config.delivery, logging.getLogger(__name__))

    @classmethod
    def explain(cls, config: keys.Config, call: Call) -> Verdict | None:
        if call.name != "bind":
            return None
        rules = Rules(config)
        return (
            rules.bind(call, _Unasked()) if rules.decide(call).port else Untouched(rules.decide(call).reason)
        )

    @classmethod
    def dumping(
        cls, config: keys.Config | None, ports: Sequence[int]
    ) -> tuple[type[LayerFeature], keys.Config]:
        from pymirror.features.network.incoming.dump import Dump

        return Dump, evolve(config or keys.Config(), mode="mirror", ports=list(ports), ignore_ports=[])

    async def prepare(self, launch: Launch) -> None:
        session = launch.environ.get(MARK)
        self._mark = f"{MARK}={session}".encode() if session else b""
        self._listeners = listeners.Listeners(0, self._mark)
        self._rules = Rules(self.config, debuggers.ports(launch.argv, launch.environ), launch.has_target)
        self._ports = launch.shared(Ports)
        self._watched: dict[int, _Watched] = {}  # by socket
        self._taken: dict[int, asyncio.Task[str]] = {}  # port of the target → why it may not be had
        self._releasing: dict[int, asyncio.Task[None]] = {}  # port of the target
        self._refused: dict[int, str] = {}  # port of the target → why, as it was said
        self._missed: set[int] = set()
        self._noted: dict[int, str] = {}  # port of the target → the last words about it
        self._probes, self._told = launch.probes, set[int]()  # ports whose probes were spoken of
        answers, most = self.config.mode == "steal", self.config.max_connections
        deliver = Deliveries(self.config.delivery, self.log)
        self._doors = Doors(launch.guests, self._choose, self._look, most, answers, self.log, deliver)
        words = keys.summary(self.config) if launch.has_target else "nothing, as there is no target"
        launch.notes.append(f"incoming: {words}")
        if launch.has_target:
            await self.peer.request(m.Begin(_who(), list(launch.probes)))

    async def started(self, process: Process) -> None:
        self._listeners = listeners.Listeners(process.pid, self._mark)
        # Not before: the program is to start with the limit it would have without us.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if self._doors is not None and most != resource.RLIM_INFINITY:
            self._doors.most = max(1, min(self._doors.most, most // SHARE))

    async def aclose(self) -> None:
        doors, self._doors = self._doors, None
        if doors is None:
            return
        if self._watching is not None:
            self._watching.cancel()
        tasks = [*self._taken.values(), *self._releasing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.config.mode == "steal":
            await doors.settle()
        doors.close()

    @intercepts("bind")
    def bind(self, call: Call) -> Verdict:
        return self._rules.bind(call, _Now(self._listeners, self._ports))

    @intercepts("listen")
    def listen(self, call: Call) -> Verdict | Awaitable[Verdict]:
        decision = self._rules.decide(call)
        if not decision.port or self._doors is None:
            return Untouched(decision.reason)
        self._watch(call, decision.port)
        asked = self._taken.get(decision.port)
        if asked is None:
            asked = self._taken[decision.port] = asyncio.ensure_future(self._take(decision.port))
        if asked.done() and not asked.result():
            return Untouched(decision.reason, there=True)
        return self._answered(asked, decision.reason, call)

    async def _answered(self, asked: asyncio.Task[str], reason: str, call: Call) -> Verdict:
        """Who gave up waiting must not take the answer from who still does."""
        why = await asyncio.shield(asked)
        if not why:
            return Untouched(reason, there=True)
        self._forget(self._watched.get(call.socket))
        return Errno(f"{reason}: {why}", code=errno.EADDRINUSE)

    async def _take(self, port: int) -> str:
        """Why the target's port may not be had; empty: it is ours."""
        while port in self._releasing:
            await asyncio.wait([self._releasing[port]])
        try:
            answer: m.Subscribed = await self.peer.request(m.Subscribe(port))
            why = answer.reason or (os.strerror(answer.code) if answer.code else "")
            if answer.note:
                self._say(port, answer.note)
        except OSError as error:
            why = error.strerror or str(error)
        except PeerError as error:
            why = error.message
        if why:
            del self._taken[port]
            if self._refused.get(port) != why:  # some servers try again each second
                self.log.warning("port %d of the target is not to be had: %s", port, why)
            self._refused[port] = why
        else:
            self._refused.pop(port, None)
            self._tell(port)
        return why

    @handles(m.News)
    def news(self, news: m.News) -> None:
        self._say(news.port, news.words)

    def _say(self, port: int, words: str) -> None:
        """Once, however often the program listens anew."""
        if self._noted.get(port) != words:
            self._noted[port] = words
            self.log.warning("port %d of the target: %s", port, words)

    def _tell(self, port: int) -> None:
        words = "" if port in self._told else warning(self.config, port, self._probes)
        self._told.add(port)
        if words:
            self.log.warning("%s", words)

    @handles(m.Here)
    def here(self, asked: m.Here) -> m.Here:
        return asked

    @handles(m.Arrived)
    def arrived(self, arrived: m.Arrived, stream: Stream) -> None:
        if self._doors is None:
            stream.close()
        else:
            self._doors.arrived(arrived, stream)

    @handles(m.Missed)
    def missed(self, missed: m.Missed) -> None:
        if missed.port in self._missed:
            return
        self._missed.add(missed.port)
        if not missed.port:
            self.log.warning("copies may end before their connections: %s", missed.reason)
        else:
            self.log.warning(
                "port %d: %d connections were not copied to their end, and more may not be: %s",
                missed.port,
                missed.connections,
                missed.reason,
            )

    def _choose(self, arrived: m.Arrived) -> list[Listener]:
        """The latest first; one for the client's IP version before one for the other."""
        six = ":" in arrived.client
        return sorted(self._ports.of(arrived.port), key=lambda each: (":" in each.real.host) != six)

    def _watch(self, call: Call, target: int) -> None:
        assert call.address is not None
        real = call.bound or call.address
        listener = Listener(call.address, real, call.shares_port, target, call.socket)
        self._watched[call.socket] = _Watched(listener, asyncio.get_running_loop().time() + WITHIN)
        self._ports.add(listener)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_later(EVERY, self._tick)

    def _tick(self) -> None:
        self._watching = None
        self._look()
        if (self._watched or self._taken) and self._doors is not None:
            self._watching = asyncio.get_running_loop().call_later(EVERY, self._tick)

    def _look(self) -> None:
        """Forget listeners that are gone, and release ports that no listener is left for."""
        try:
            there: Mapping[int, Collection[int]] = _sockets(
                {each.listener.real.port for each in self._watched.values()}
            )
        except OSError as error:  # no descriptor left: another time
            self.log.debug("which listeners are still there is not known: %s", error)
            return
        now = asyncio.get_running_loop().time()
        for watched in list(self._watched.values()):
            if watched.is_gone(there.get(watched.listener.real.port, ()), now):
                self._forget(watched)
        for port, asked in list(self._taken.items()):
            if asked.done() and not self._ports.of(port):
                self._release(port)

    def _forget(self, watched: _Watched | None) -> None:
        if watched is not None:
            self._watched.pop(watched.listener.socket, None)
            self._ports.remove(watched.listener)

    def _release(self, port: int) -> None:
        del self._taken[port]
        self._releasing[port] = asyncio.ensure_future(self._released(port))

    async def _released(self, port: int) -> None:
        with suppress(OSError, PeerError):  # there is nobody any more
            await self.peer.request(m.Release(port))
        del self._releasing[port]


def _who() -> str:
    """Whose session it is, for others who want the same port."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _sockets(ports: Iterable[int]) -> dict[int, set[int]]:
    """Port → SO_COOKIE of this machine's listening sockets on it."""
    found: dict[int, set[int]] = {}
    for port in ports:
        for each in sockdiag.sockets(sockdiag.TCP, sockdiag.LISTEN, port):
            if each.port == port:
                found.setdefault(port, set()).add(each.cookie)
    return found


def _listening(port: int) -> bool:
    return bool(_sockets({port}))
