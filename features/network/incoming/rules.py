"""Which of the program's listeners get the target's traffic, by which rule, and where they listen here. Pure.

The order is that of docs/incoming.md; the first rule that holds decides.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from pymirror.core.call import Address, Bind, Call, Errno, Untouched, Verdict
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.ports import Listener

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@frozen
class Decision:
    """port: the target's; 0: the listener is this machine's alone."""

    port: int
    reason: str


class Facts(Protocol):
    """What the rules ask about this machine."""

    def listens(self, port: int) -> str:
        """Who of the program listens on that port, in words; empty: nobody."""

    def asked(self, port: int) -> Sequence[Listener]:
        """What listens now and the program sees on that port."""


class Rules:
    """`debuggers`: ports of debuggers named on the program's command line."""

    def __init__(
        self, config: Config, debuggers: frozenset[int] = frozenset(), has_target: bool = True
    ) -> None:
        self._config, self._debuggers, self._has_target = config, debuggers, has_target
        self._there = {asked: there for asked, there in config.port_mapping}
        self._here = {asked: here for asked, here in config.listen_ports}

    def bind(self, call: Call, facts: Facts) -> Verdict:
        assert call.address is not None
        address, decision = call.address, self.decide(call)
        instead = self._here.get(address.port) if self._serves(call) is None else None
        if instead is not None:
            reason = f"{decision.reason}; incoming.listen_ports: {instead} here"
            return Bind(reason, tries=(Address(address.host, instead),))
        if not decision.port:
            return Untouched(decision.reason)
        rivals = [each for each in facts.asked(address.port) if _meet(each.asked, address)]
        if facts.listens(address.port) or any(each.real.port == address.port for each in rivals):
            return Bind(decision.reason, tries=(address,))  # as it would be anywhere
        if rivals and not (call.shares_port and all(each.shares for each in rivals)):
            return Errno(f"incoming: the program listens on {rivals[0].asked}", code=errno.EADDRINUSE)
        return Bind(decision.reason, tries=(rivals[0].real,) if rivals else tries(address))

    def decide(self, call: Call) -> Decision:
        """For a call of LISTENER_CALLS: whether, and for which port of the target."""
        assert call.address is not None
        local = self._serves(call) or self._stays(call.address)
        if local is not None:
            return Decision(0, local)
        port = call.address.port
        there = self._there.get(port, port)
        if self._config.ports is not None and there not in self._config.ports:
            return Decision(0, f"incoming.ports: {there} is not one of them")
        mapped = f", by incoming.port_mapping {port}" if port in self._there else ""
        return Decision(there, f"incoming: {self._config.mode} of port {there}{mapped}")

    def _serves(self, call: Call) -> str | None:
        """Why no such call is ours at all."""
        if self._config.mode == "off":
            return "incoming.mode: off"
        if not self._has_target:
            return "incoming: there is no target"
        if call.transport != "tcp":
            return "incoming: not TCP"
        return "incoming: port 0" if call.address is None or not call.address.port else None

    def _stays(self, address: Address) -> str | None:
        if self._config.ignore_localhost and address.ip.is_loopback:
            return "incoming.ignore_localhost"
        if address.port in self._debuggers:
            return f"incoming: port {address.port} is a debugger's"
        if address.port in self._config.ignore_ports:
            return f"incoming.ignore_ports {address.port}"
        return None


def tries(address: Address) -> tuple[Address, ...]:
    """Where a listener may be here, so that the program can listen whatever this machine has on that port."""
    loopback = LOOPBACK[address.ip.version]
    wanted = (address, Address(address.host, 0), Address(loopback, address.port), Address(loopback, 0))
    return tuple(dict.fromkeys(wanted))


def _meet(one: Address, other: Address) -> bool:
    """No two sockets have both, unless they share a port."""
    if one.ip.version != other.ip.version:
        return False
    return one.host == other.host or one.ip.is_unspecified or other.ip.is_unspecified
