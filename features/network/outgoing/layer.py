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
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any

from pymirror.core.call import SOCKET_CALLS, Address, Call, Errno, OtherAddress, Untouched, Verdict
from pymirror.core.errors import PeerError
from pymirror.core.feature import Launch, LayerFeature, Process, handles, intercepts
from pymirror.core.later import Later
from pymirror.core.limit import timeout
from pymirror.core.patterns import TooSlow
from pymirror.features.network import debuggers, listeners, sockdiag
from pymirror.features.network.carry import Join, join
from pymirror.features.network.names import Lookup, Names, OutgoingFilter
from pymirror.features.network.outgoing import config as keys
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.borrow import Holders
from pymirror.features.network.outgoing.datagrams import Flow
from pymirror.features.network.outgoing.dial import Dial, Key, by_device, key_of
from pymirror.features.network.outgoing.facts import Now, Unasked
from pymirror.features.network.outgoing.flows import Flows
from pymirror.features.network.outgoing.limits import Limit
from pymirror.features.network.outgoing.looks import Looks
from pymirror.features.network.outgoing.lookups import WITHIN, Lookups
from pymirror.features.network.outgoing.relay import Relay
from pymirror.features.network.outgoing.rooms import Rooms
from pymirror.features.network.outgoing.rules import Decision, Place, Rules, Unknown
from pymirror.features.network.outgoing.settling import AT_ONCE, settle
from pymirror.features.network.outgoing.telling import Telling
from pymirror.features.network.ports import Ports

MARK = "PYMIRROR_SESSION"
"""In the environment of each process of the program, with this session's own value."""
LATE = 30.0
"""Seconds in which nobody waits again for an address that did not answer in time."""
MOST_REACHED = 4096
"""Addresses remembered as reached before."""


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
            decision = Rules(config).decide(call, Unasked())
        except TooSlow as slow:
            return Errno(slow.strerror, code=errno.EIO)
        if isinstance(decision, Unknown):
            return Verdict(f"outgoing.filter: depends on the addresses of {', '.join(decision.names)}")
        if decision.place is Place.HERE:
            return Untouched(decision.reason)
        return OtherAddress(decision.reason, relay=b"")

    async def prepare(self, launch: Launch) -> None:
        self._relay = Relay()
        self._flows, self._forget_verdict = Flows(), launch.forget
        self._rules = Rules(self.config, debuggers.ports(launch.argv, launch.environ))
        self._names, self._ports = launch.shared(Names), launch.shared(Ports)
        chosen = self.config.filter
        self._lookups = Lookups(launch.shared(Lookup))
        self._own = Lookups(Lookup(), logging.DEBUG)
        session = launch.environ.get(MARK)
        self._mark = f"{MARK}={session}".encode() if session else b""
        self._listeners = listeners.Listeners(0, self._mark)
        self._number = 0
        self._dials: dict[int, Dial] = {}  # without a result yet
        self._begun: dict[Key, Dial] = {}
        self._reached: OrderedDict[tuple[str, Address | None], str] = OrderedDict()  # → from which host
        self._slow: OrderedDict[tuple[str, Address | None], float] = OrderedDict()  # → until when
        self._open = 0
        self._limit = Limit(self.config.max_connections, self.log)
        self._joined: dict[int, Join | Flow] = {}
        self._holders = Holders(lambda: self._listeners)
        self._telling = Telling(self._holder)
        self._rooms = Rooms(self._holders.hold, Looks())
        if chosen is not None:
            launch.shared(OutgoingFilter).tell(chosen.entries, chosen.remote is None)
        launch.notes.append(f"outgoing: {keys.summary(self.config)}")

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
            async with timeout(AT_ONCE):
                relay.settle()
                self._flows.settle()
                await self._rooms.settle()
            await settle(dict(self._joined), self._settled, self.config.settle_timeout)
        except (asyncio.TimeoutError, OSError, PeerError) as error:
            self.log.debug("what the program sent last may not have arrived: %r", error)
        await self._lookups.aclose()
        await self._own.aclose()
        for dial in list(self._dials.values()):  # a child that outlives the program may wait for it
            self.dialed(m.Dialed(dial.number, errno.ECONNABORTED))
            self._unless_handed_over(dial)
        await self._rooms.aclose()
        await self._telling.aclose()
        await self._holders.aclose()
        self._flows.close()
        relay.close()
        for joined in list(self._joined.values()):
            joined.cancel()

    @handles(m.Dialed)
    def dialed(self, dialed: m.Dialed) -> None:
        if dialed.code in (errno.EMFILE, errno.ENFILE):
            self._limit.refused_there()
            dialed = m.Dialed(dialed.number, errno.EADDRNOTAVAIL)
        dial = self._dials.pop(dialed.number, None)
        if dial is not None:
            dial.result = dialed
            self._slow.pop(dial.key[1:3], None)
            if dialed.code:
                self._reached.pop(dial.key[1:3], None)
            waiting, dial.waiting = dial.waiting, []
            for tell in waiting:
                tell()

    @handles(m.Refused)
    def refused(self, refused: m.Refused) -> None:
        flow = self._joined.get(refused.number)
        if isinstance(flow, Flow):
            self._telling.refused(flow)

    async def _holder(self, flow: Flow) -> tuple[int, int] | None:
        return await self._holders.find(listeners.Place(sockdiag.UDP, flow.port, flow.program))

    @intercepts("connect", "sendto")
    def connect(self, call: Call) -> Verdict | Awaitable[Verdict]:
        return self._asked(call, None)

    def _asked(self, call: Call, since: float | None) -> Verdict | Awaitable[Verdict]:
        """since: when the call began to wait, by the loop's clock; None: it has not waited."""
        try:
            decision = self._rules.decide(call, Now(self._listeners, self._ports, self._names, self._lookups))
        except TooSlow as slow:
            return Errno(slow.strerror, code=errno.EIO)
        if isinstance(decision, Unknown):
            return self._looked_up(call, decision, since or asyncio.get_running_loop().time())
        return self._decided(call, decision, since)

    async def _looked_up(self, call: Call, unknown: Unknown, since: float) -> Verdict:
        await self._lookups.ask(unknown.names, self._patience(call, since))
        verdict = self._asked(call, since)
        return verdict if isinstance(verdict, Verdict) else await verdict

    def _decided(self, call: Call, decision: Decision, since: float | None) -> Verdict | Awaitable[Verdict]:
        if decision.place is Place.HERE:
            return self._stays(call, decision, since)
        # One that was given up while it waited for names may have been asked about again meanwhile.
        begun = self._begun.get(key_of(call)) if call.again or since is not None else None
        if begun is None and self._open >= self._limit.most:
            self._flows.make_room()
        if self._relay is None or (begun is None and self._open >= self._limit.most):
            return Errno(f"{decision.reason}; {self._limit.refused()}", code=errno.EADDRNOTAVAIL)
        dial = begun or self._begin(call)
        wait = self._left(call, since)
        if wait is not None and (begun is not None or self._is_reached(call) or self._is_slow(call)):
            wait = 0.0
        if dial.result is not None or wait == 0:
            return self._verdict(call, decision, dial)
        return self._wait(call, decision, dial, wait)

    def _left(self, call: Call, since: float | None) -> float | None:
        """Seconds the call may still wait; None: as long as it takes."""
        if call.blocking:
            return None
        waited = 0.0 if since is None else asyncio.get_running_loop().time() - since
        return max(0.0, self.config.nonblocking_wait - waited)

    def _patience(self, call: Call, since: float | None) -> float:
        """Seconds a call may wait for names."""
        left = self._left(call, since)
        return WITHIN if left is None else left

    def _stays(self, call: Call, decision: Decision, since: float | None) -> Verdict | Awaitable[Verdict]:
        """An address that the target's resolver gave out may be nothing here, its name yes (mirrord: 7.2)."""
        if decision.port and call.address is not None:
            own = Address(call.address.host, decision.port)
            return OtherAddress(decision.reason, relay=own, here=True)
        untouched = Untouched(decision.reason)
        name = self._names.there(call.address.host) if call.address is not None and decision.filtered else ""
        if not name or call.address is None or call.address.ip.is_loopback:
            return untouched
        if self._own.known(name) is None:
            return self._renamed_later(call, decision, name, self._patience(call, since))
        return self._renamed(decision, call.address, name)

    async def _renamed_later(self, call: Call, decision: Decision, name: str, within: float) -> Verdict:
        await self._own.ask([name], within)
        assert call.address is not None
        return self._renamed(decision, call.address, name)

    def _renamed(self, decision: Decision, address: Address, name: str) -> Verdict:
        """The call goes to what `name` is here."""
        found = self._own.known(name) or ()
        fitting = sorted(host for host in found if (":" in host) == (":" in address.host))
        if not fitting or address.host in fitting:
            return Untouched(decision.reason)
        reason = f"{decision.reason}; {name} is {fitting[0]} here"
        return OtherAddress(reason, relay=Address(fitting[0], address.port), here=True)

    def _wait(self, call: Call, decision: Decision, dial: Dial, limit: float | None) -> Later:
        later = Later()
        tell = partial(self._tell, call, decision, dial, later)
        dial.waiting.append(tell)
        if limit is not None:
            asyncio.get_running_loop().call_later(limit, tell)
        return later

    def _tell(self, call: Call, decision: Decision, dial: Dial, later: Later) -> None:
        if not later.settled:
            if dial.result is None:
                self._slow[call.transport, call.address] = asyncio.get_running_loop().time() + LATE
                if len(self._slow) > MOST_REACHED:
                    self._slow.popitem(last=False)
            later.settle(self._verdict(call, decision, dial))

    def _verdict(self, call: Call, decision: Decision, dial: Dial) -> Verdict:
        dialed = dial.result
        if dialed is not None and dialed.code:
            self._unless_handed_over(dial)
            return self._failed(call, decision, dialed.code)
        try:
            where, words = dial.place = dial.place or self._place(call, dial)
        except OSError as error:  # no descriptor left for the relay
            self._unless_handed_over(dial)
            return Errno(f"{decision.reason}: {error}", code=error.errno or errno.EIO)
        return OtherAddress(decision.reason, relay=where, introduction=words, name=self._name(call, dialed))

    def _failed(self, call: Call, decision: Decision, code: int) -> Verdict:
        """A refusal of what was not to be waited for is the socket's to tell, as ever: by poll and SO_ERROR.

        The kernel makes it so for a connection that it refuses itself. No other failure can be made.
        """
        polled = call.transport == "tcp" and not call.blocking and not call.again
        if code == errno.ECONNREFUSED and polled and call.address is not None and self._relay is not None:
            with suppress(OSError):  # no descriptor left
                refusing = self._relay.refusing(call.address.ip.version)
                return OtherAddress(f"{decision.reason}; refused", relay=refusing)
        return Errno(decision.reason, code=code)

    def _begin(self, call: Call) -> Dial:
        self._number += 1
        number, key = self._number, key_of(call)
        host, port = (call.address.host, call.address.port) if call.address is not None else ("", 0)
        stream = self.peer.stream_now(m.Dial(number, call.transport, by_device(host), port, call.path))
        self._open += 1
        dial = self._dials[number] = self._begun[key] = Dial(number, call, stream)
        return dial

    def _place(self, call: Call, dial: Dial) -> tuple[Address | bytes, bytes]:
        known = dial.result is not None or self._is_reached(call)
        relayed = known or call.again or call.transport != "tcp"
        return self._relayed(call, dial) if relayed else self._late(call, dial)

    def _relayed(self, call: Call, dial: Dial) -> tuple[Address | bytes, bytes]:
        """(where to connect, introduction)."""
        relay = self._relay
        if relay is None:
            raise OSError(errno.ECONNABORTED, "the session ends")
        never, joined = partial(self._drop, dial), partial(self._join, dial)
        if call.address is None:
            kind = socket.SOCK_STREAM if call.transport == "unix" else socket.SOCK_SEQPACKET
            return relay.name(kind), relay.expect(joined, never)
        version = call.address.ip.version
        if call.transport == "udp":
            return self._flows.expect(version, partial(self._flow, dial), never)
        return relay.address(version), relay.expect(joined, never)

    def _is_slow(self, call: Call) -> bool:
        """Did it not answer in time a moment ago? A program that tries again is not held each time."""
        return self._slow.get((call.transport, call.address), 0.0) > asyncio.get_running_loop().time()

    def _is_reached(self, call: Call) -> bool:
        return (call.transport, call.address) in self._reached

    def _late(self, call: Call, dial: Dial) -> tuple[Address, bytes]:
        """Where the program's connect is under way until the target's has ended; without an introduction."""
        assert call.address is not None
        known = asyncio.Event()
        dial.waiting.append(known.set)

        async def connected() -> bool:
            await known.wait()
            dialed = dial.result
            if dialed is None or dialed.code:
                return False
            self._name(call, dialed)
            return True

        joined, never = partial(self._join, dial), partial(self._drop, dial)
        return self._rooms.take(call.address.ip.version, call.socket, connected(), joined, never), b""

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

    def _join(self, dial: Dial, sock: socket.socket) -> None:
        self._keep(dial, join(sock, dial.stream, partial(self._over, dial)))

    def _flow(self, dial: Dial, sock: socket.socket, program: Any) -> Flow:
        flow = Flow(sock, dial.stream, partial(self._over, dial), program=dial.call.socket, only=program)
        if dial.call.name == "sendto":
            flow.forget = partial(self._forget_verdict, dial.call)
        self._keep(dial, flow)
        return flow

    def _keep(self, dial: Dial, joined: Join | Flow) -> None:
        if not joined.closed:
            self._joined[dial.number] = joined

    def _over(self, dial: Dial) -> None:
        self._joined.pop(dial.number, None)
        self._forget(dial)

    def _forget(self, dial: Dial) -> None:
        self._open -= 1
        if self._begun.get(dial.key) is dial:
            del self._begun[dial.key]

    async def _settled(self, numbers: list[int]) -> None:
        await self.peer.request(m.Settle(numbers), timeout=None)

    def _unless_handed_over(self, dial: Dial) -> None:
        if dial.place is None:
            self._drop(dial)

    def _drop(self, dial: Dial) -> None:
        """The program is gone, or does not want the connection any more."""
        if dial.dropped:
            return
        dial.dropped = True
        self._dials.pop(dial.number, None)
        self._forget(dial)
        dial.stream.close()
