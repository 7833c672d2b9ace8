"""The layer's half of `network.outgoing`: decides each destination, dials through the agent, relays.

A blocking connect is answered when the agent has connected or failed; a non-blocking one waits a
bounded time, and not at all for an address that was reached before.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from attrs import define

from pymirror.core.call import SOCKET_CALLS, Address, Call, Errno, OtherAddress, Untouched, Verdict
from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Launch, LayerFeature, Process, Stream, handles, intercepts
from pymirror.core.limit import timeout
from pymirror.core.patterns import TooSlow
from pymirror.features.network.names import Lookup, Names, OutgoingFilter
from pymirror.features.network.outgoing import config as keys
from pymirror.features.network.outgoing import debuggers, listeners
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.carry import Join
from pymirror.features.network.outgoing.datagrams import Flow
from pymirror.features.network.outgoing.flows import Flows
from pymirror.features.network.outgoing.limits import Limit
from pymirror.features.network.outgoing.lookups import WITHIN, Lookups
from pymirror.features.network.outgoing.refusals import borrowed
from pymirror.features.network.outgoing.relay import Relay
from pymirror.features.network.outgoing.room import Room
from pymirror.features.network.outgoing.rules import Decision, Facts, Place, Rules, Unknown

MARK = "PYMIRROR_SESSION"
"""In the environment of each process of the program, with this session's own value."""
SETTLE = 3.0
"""Seconds after the program's end for what it sent last; a child that outlives it may hold a connection."""
MOST_REACHED = 4096
"""Addresses remembered as reached before."""


_Key = tuple[int, str, Address | None, bytes]


def _key(call: Call) -> _Key:
    return call.socket, call.transport, call.address, call.path


@define
class _Dial:
    """A connection from its call to its end. place: where the program's socket is handed over."""

    number: int
    key: _Key
    stream: Stream
    result: asyncio.Future[m.Dialed]
    place: tuple[Address | bytes, bytes] | None = None
    dropped: bool = False


class Layer(LayerFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config
    _relay: Relay | None = None

    @classmethod
    def wanted(cls, config: keys.Config) -> bool:
        return config.tcp or config.udp or bool(config.unix_streams)

    @classmethod
    def rights(cls, config: keys.Config) -> frozenset[str]:
        """To enter the target's network namespace, and to connect to unix sockets of another user."""
        return frozenset({"SYS_PTRACE", "SYS_ADMIN", *(("DAC_OVERRIDE",) if config.unix_streams else ())})

    @classmethod
    def explain(cls, config: keys.Config, call: Call) -> Verdict | None:
        if call.name not in SOCKET_CALLS:
            return None
        try:
            decision = Rules(config).decide(call, _Unasked())
        except TooSlow as slow:
            return Errno(slow.strerror, code=errno.EIO)
        if isinstance(decision, Unknown):
            return Verdict(f"outgoing.filter: depends on the addresses of {', '.join(decision.names)}")
        if decision.place is Place.HERE:
            return Untouched(decision.reason)
        return OtherAddress(decision.reason, relay=b"")

    async def prepare(self, launch: Launch) -> None:
        self._relay = Relay()
        self._flows = Flows()
        self._rules = Rules(self.config, debuggers.ports(launch.argv, launch.environ))
        self._names = launch.shared(Names)
        chosen = self.config.filter
        self._lookups = Lookups(launch.shared(Lookup))
        self._own = Lookups(Lookup(), logging.DEBUG)
        session = launch.environ.get(MARK)
        self._mark = f"{MARK}={session}".encode() if session else b""
        self._listeners = listeners.Listeners(0, self._mark)
        self._number = 0
        self._dials: dict[int, asyncio.Future[m.Dialed]] = {}
        self._begun: dict[_Key, _Dial] = {}
        self._reached: OrderedDict[tuple[str, Address | None], str] = (
            OrderedDict()
        )  # → the host it was reached from
        self._open = 0
        self._limit = Limit(self.config.max_connections, self.log)
        self._joined: dict[int, Join | Flow] = {}
        if chosen is not None:
            launch.shared(OutgoingFilter).tell(chosen.entries, chosen.remote is None)
        launch.notes.append(f"outgoing: {_summary(self.config)}")

    async def started(self, process: Process) -> None:
        self._listeners = listeners.Listeners(process.pid, self._mark)
        self._lookups.begin(self._rules.names)
        # Not before: the program is to start with the limit it would have without us.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._limit.fit(most)

    async def aclose(self) -> None:
        relay, self._relay = self._relay, None
        if relay is None:
            return
        try:
            async with timeout(SETTLE):
                await self._settle()
        except (asyncio.TimeoutError, OSError, PeerError) as error:
            self.log.debug("what the program sent last may not have arrived: %r", error)
        await self._lookups.aclose()
        await self._own.aclose()
        await self._flows.aclose()
        await relay.aclose()

    @handles(m.Dialed)
    async def dialed(self, dialed: m.Dialed) -> None:
        if dialed.code in (errno.EMFILE, errno.ENFILE):
            self._limit.refused_there()
            dialed = m.Dialed(dialed.number, errno.EADDRNOTAVAIL)
        future = self._dials.pop(dialed.number, None)
        if future is not None and not future.done():
            future.set_result(dialed)

    @handles(m.Refused)
    async def refused(self, refused: m.Refused) -> None:
        """The program hears of it at its next call, as the kernel has it."""
        flow = self._joined.get(refused.number)
        if not isinstance(flow, Flow):
            return
        program = borrowed(*flow.holder, flow.program) if flow.holder is not None else None
        if program is None:
            flow.holder = await asyncio.to_thread(self._listeners.holder, flow.port)
            program = borrowed(*flow.holder, flow.program) if flow.holder is not None else None
        if program is not None:
            with program:
                if self._joined.get(refused.number) is flow:
                    flow.refuse(program)

    @intercepts("connect", "sendto")
    async def connect(self, call: Call) -> Verdict | None:
        try:
            decision = await self._decide(call)
        except TooSlow as slow:
            return Errno(slow.strerror, code=errno.EIO)
        if decision.place is Place.HERE:
            return await self._stays(call, decision)
        begun = self._begun.get(_key(call)) if call.again else None
        if self._relay is None or (begun is None and self._open >= self._limit.most):
            return Errno(f"{decision.reason}; {self._limit.refused()}", code=errno.EADDRNOTAVAIL)
        return await self._dialed(call, decision, begun, self._relay)

    async def _decide(self, call: Call) -> Decision:
        facts = _Facts(self._listeners, self._names, self._lookups)
        while isinstance(decision := self._rules.decide(call, facts), Unknown):
            await self._lookups.ask(decision.names, self._patience(call))
        return decision

    def _patience(self, call: Call) -> float:
        """Seconds a call may wait for names."""
        return WITHIN if call.blocking else self.config.nonblocking_wait

    async def _stays(self, call: Call, decision: Decision) -> Verdict:
        """An address that the target's resolver gave out may be nothing here, its name yes (mirrord: 7.2)."""
        untouched = Untouched(decision.reason)
        name = self._names.there(call.address.host) if call.address is not None and decision.filtered else ""
        if not name or call.address is None or call.address.ip.is_loopback:
            return untouched
        if self._own.known(name) is None:
            await self._own.ask([name], self._patience(call))
        found = self._own.known(name) or ()
        fitting = sorted(host for host in found if (":" in host) == (":" in call.address.host))
        if not fitting or call.address.host in fitting:
            return untouched
        reason = f"{decision.reason}; {name} is {fitting[0]} here"
        return OtherAddress(reason, relay=Address(fitting[0], call.address.port), here=True)

    async def _dialed(self, call: Call, decision: Decision, begun: _Dial | None, relay: Relay) -> Verdict:
        dial = begun or await self._begin(call)
        try:
            dialed = await self._result(call, dial.result, at_once=begun is not None)
            if dialed is None or not dialed.code:
                where, words = dial.place = dial.place or self._place(call, dial, dialed, relay)
        except BaseException:
            await self._unless_handed_over(dial)
            raise
        if dialed is not None and dialed.code:
            await self._unless_handed_over(dial)
            return Errno(decision.reason, code=dialed.code)
        return OtherAddress(decision.reason, relay=where, introduction=words, name=self._name(call, dialed))

    async def _begin(self, call: Call) -> _Dial:
        self._number += 1
        number = self._number
        future = self._dials[number] = asyncio.get_running_loop().create_future()
        host, port = (call.address.host, call.address.port) if call.address is not None else ("", 0)
        stream = await self.peer.stream(m.Dial(number, call.transport, _by_device(host), port, call.path))
        self._open += 1
        dial = self._begun[_key(call)] = _Dial(number, _key(call), stream, future)
        return dial

    def _place(
        self, call: Call, dial: _Dial, dialed: m.Dialed | None, relay: Relay
    ) -> tuple[Address | bytes, bytes]:
        waits = dialed is None and call.transport == "tcp" and not call.again and not self._is_reached(call)
        return self._late(call, dial, relay) if waits else self._relayed(call, dial, relay)

    def _relayed(self, call: Call, dial: _Dial, relay: Relay) -> tuple[Address | bytes, bytes]:
        """(where to connect, introduction)."""
        never = partial(self._abandon, dial)
        join = partial(self._join, dial)
        if call.address is None:
            kind = socket.SOCK_STREAM if call.transport == "unix" else socket.SOCK_SEQPACKET
            return relay.name(kind), relay.expect(join, never)
        version = call.address.ip.version
        if call.transport == "udp":
            return self._flows.expect(version, partial(self._flow, dial), never)
        return relay.address(version), relay.expect(join, never)

    async def _result(self, call: Call, future: asyncio.Future[m.Dialed], at_once: bool) -> m.Dialed | None:
        """None: not known within the time this call may wait."""
        if call.blocking:
            return await future
        if at_once or self._is_reached(call):
            return future.result() if future.done() else None
        done, _ = await asyncio.wait([future], timeout=self.config.nonblocking_wait)
        return future.result() if done else None

    def _is_reached(self, call: Call) -> bool:
        return (call.transport, call.address) in self._reached

    def _late(self, call: Call, dial: _Dial, relay: Relay) -> tuple[Address, bytes]:
        """Where the program's connect is under way until the target's has ended; without an introduction."""
        assert call.address is not None
        room = Room(call.address.ip.version)

        async def connected() -> bool:
            dialed = await dial.result
            if not dialed.code:
                self._name(call, dialed)
            return not dialed.code

        async def enter() -> None:
            try:
                sock = await room.joined(connected())
            except OSError as error:
                self.log.warning("a connection that was being made is lost: %s", error)
                sock = None
            await (self._drop(dial) if sock is None else self._join(dial, sock))

        relay.spawn(enter())
        return room.address, b""

    def _name(self, call: Call, dialed: m.Dialed | None) -> Address | None:
        """What getsockname tells: a host it was reached from before, with any port, if it must be guessed."""
        if call.address is None:
            return None
        key = (call.transport, call.address)
        zone = "".join(call.address.host.partition("%")[1:])  # the program's own for that network
        if dialed is None:
            host = self._reached.get(key)
            return Address(host + zone, 0) if host is not None else None
        self._reached[key] = dialed.host
        self._reached.move_to_end(key)
        if len(self._reached) > MOST_REACHED:
            self._reached.popitem(last=False)
        return Address(dialed.host + zone, dialed.port)

    async def _join(self, dial: _Dial, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._run(dial, Join(sock, dial.stream))

    async def _flow(self, dial: _Dial, sock: socket.socket) -> None:
        await self._run(dial, Flow(sock, dial.stream, program=dial.key[0]))

    async def _run(self, dial: _Dial, joined: Join | Flow) -> None:
        self._joined[dial.number] = joined
        try:
            await joined.run()
        finally:
            del self._joined[dial.number]
            self._forget(dial)

    def _forget(self, dial: _Dial) -> None:
        self._open -= 1
        if self._begun.get(dial.key) is dial:
            del self._begun[dial.key]

    async def _settle(self) -> None:
        """What the program sent before it ended arrives, as it does when the kernel alone carries it."""
        joined = dict(self._joined)
        if joined:
            await asyncio.gather(
                *(each.taken.wait() if isinstance(each, Join) else each.finish() for each in joined.values())
            )
            await self.peer.request(m.Settle(list(joined)))

    def _abandon(self, dial: _Dial) -> None:
        """The program is gone, or does not want the connection any more."""
        if self._relay is not None:
            self._relay.spawn(self._drop(dial))

    async def _unless_handed_over(self, dial: _Dial) -> None:
        if dial.place is None:
            await self._drop(dial)

    async def _drop(self, dial: _Dial) -> None:
        if dial.dropped:
            return
        dial.dropped = True
        self._dials.pop(dial.number, None)
        self._forget(dial)
        try:
            await dial.stream.aclose()
        except ChannelLost:
            return


def _by_device(host: str) -> str:
    """A link-local address with its device by name: more likely the same in the target than its number."""
    bare, percent, zone = host.partition("%")
    with suppress(OSError):
        return f"{bare}%{socket.if_indextoname(int(zone))}" if percent else host
    return host


class _Facts(Facts):
    """What is true now, on this machine."""

    def __init__(self, ours: listeners.Listeners, names: Names, lookups: Lookups) -> None:
        self._ours, self._names, self._lookups = ours, names, lookups

    def listens(self, transport: str, port: int) -> str:
        return self._ours.of(transport, port)

    def names(self, host: str) -> Iterable[str]:
        return self._names.of(host)

    def look_up(self, name: str) -> Iterable[str] | None:
        return self._lookups.known(name)


class _Unasked(Facts):
    """For `explain`, which looks at nothing but the configuration."""

    def listens(self, transport: str, port: int) -> str:
        return ""

    def names(self, host: str) -> Iterable[str]:
        return ()

    def look_up(self, name: str) -> Iterable[str] | None:
        return None


def _summary(config: keys.Config) -> str:
    kinds = " and ".join(name.upper() for name in ("tcp", "udp") if getattr(config, name)) or "unix sockets"
    if config.filter is None:
        return f"{kinds} from the target"
    if config.filter.remote is not None:
        return f"{kinds} from the target for {len(config.filter.remote)} filter entries, else from here"
    return f"{kinds} from the target, except {len(config.filter.local or ())} filter entries"
