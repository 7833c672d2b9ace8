"""The keys of `feature.network.incoming`, and of `agent` where they steer its traffic (mirrord: 2.4, 8.1)."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from attrs import frozen

from pymirror.core.config import Flag, every, key, not_negative, one_of, positive
from pymirror.features.network.incoming.http_filter import HttpFilter
from pymirror.features.network.incoming.tls_keys import Delivery, Tls, idle, once_each

MODES = ("mirror", "steal", "off")
WARN, PASS, ANSWER, PROGRAM = PROBES = ("warn", "pass", "answer", "program")
MOST = 4000
"""A session carries 8192 streams (core/mux.py), and other features have some."""
_LARGEST_BODY = 16 << 20


_PAIRS = {
    "port_mapping": ("the local port", "the target's port"),
    "listen_ports": ("the port asked for", "the port listened on"),
}


def _mode(value: str) -> str:
    """`true` and `false` are what the variable may say too (mirrord: 2.2)."""
    return {"true": "steal", "false": "off"}.get(value, value)


def _port(value: int) -> None:
    if not 0 < value < 1 << 16:
        raise ValueError(f"{value} is no port", "a port is a number from 1 to 65535")


def _pair(value: list[int]) -> None:
    if len(value) != 2:
        raise ValueError(f"{value} is no pair of ports", "for example [[8080, 80]]")
    for port in value:
        _port(port)


def _unique(instance: object, attribute: Any, value: list[list[int]]) -> None:
    """Each port once in its column."""
    every(_pair)(instance, attribute, value)
    for column, words in enumerate(_PAIRS[attribute.name]):
        port, count = Counter(pair[column] for pair in value).most_common(1)[0] if value else (0, 0)
        if count > 1:
            raise ValueError(f"{attribute.name}: {words} {port} is there twice", "leave one of them out")


def _carried(instance: object, attribute: Any, value: int) -> None:
    positive(instance, attribute, value)
    if value > MOST:
        raise ValueError(f"{attribute.name}: must not be above {MOST}, got {value}")


def _buffered(instance: object, attribute: Any, value: int) -> None:
    not_negative(instance, attribute, value)
    if value > _LARGEST_BODY:
        raise ValueError(f"{attribute.name}: must not be above {_LARGEST_BODY} (16 MiB), got {value}")


@frozen
class Config:
    """Which of the target's incoming traffic the program gets, and whether the application gets it too."""

    absent: ClassVar = {"mode": "off"}  # a copy takes a right that not every namespace gives
    variables: ClassVar = ("DETECT_DEBUGGER_PORT", "IGNORE_DEBUGGER_PORTS")

    mode: str = key(
        "mirror",
        env="AGENT_TCP_STEAL_TRAFFIC",
        flags=[Flag(("--steal",), text="steal", help="Take the target's incoming traffic.")],
        converter=_mode,
        validator=one_of(*MODES),
        help="mirror: a copy; steal: in the application's place; off: ports are this machine's alone. "
        "Where the section is not there at all: off.",
    )
    port_mapping: list[list[int]] = key(
        factory=list, validator=_unique, help="[port the program listens on, port of the target]."
    )
    ports: list[int] | None = key(
        None, validator=every(_port), help="Only these ports of the target. Not together with ignore_ports."
    )
    ignore_ports: list[int] = key(
        factory=list, validator=every(_port), help="Ports of the program that are this machine's alone."
    )
    listen_ports: list[list[int]] = key(
        factory=list,
        validator=_unique,
        help="[port the program asks for, port of this machine that it gets, and no other].",
    )
    http_filter: HttpFilter = key(
        factory=HttpFilter, help="Which HTTP requests; all else is the application's alone."
    )
    tls_delivery: Delivery | None = key(
        None,
        help="How what came by TLS and was opened (agent.tls) reaches the program: {protocol: tls or tcp, "
        "trust_roots or server_cert, server_name}; else by TLS, any certificate trusted.",
    )
    https_delivery: Delivery | None = key(None, help="The same by its former name.")
    ignore_localhost: bool = key(False, help="What listens on a loopback address is this machine's alone.")
    probes: str = key(
        WARN,
        validator=one_of(*PROBES),
        help="The target's HTTP and gRPC probes on a stolen port. warn: they are the program's, and it is "
        "said; program: the same without a word; pass: the application's; answer: the agent answers that all "
        "is well. Of a port with a filter, pass and answer leave them to the application.",
    )
    max_connections: int = key(
        2048,
        validator=_carried,
        help=f"Connections to the program at once, up to {MOST}; more are reset.",
    )
    flush_connections: bool = key(
        False,
        env="AGENT_STEALER_FLUSH_CONNECTIONS",
        at="agent.flush_connections",
        help="When a port is stolen, connections that clients have to it end, and are made anew.",
    )
    http_detection_timeout: float = key(
        2.0,
        env="AGENT_HTTP_DETECTION_TIMEOUT",
        at="agent.http_detection_timeout",
        validator=positive,
        help="Seconds a client may take to show that it speaks HTTP, where there is a filter.",
    )
    tls: list[Tls] = key(
        factory=list,
        at="agent.tls",
        validator=once_each,
        help="Filtered ports that speak TLS: {ports, certificate, key, application: same or any}.",
    )
    max_body_buffer_size: int = key(
        65535,
        at="agent.max_body_buffer_size",
        validator=_buffered,
        help="Bytes of a body that a body filter waits for; a longer one does not match.",
    )
    max_body_buffer_timeout: int = key(
        1000,
        at="agent.max_body_buffer_timeout",
        validator=positive,
        help="Milliseconds a body filter waits for them; a slower one does not match.",
    )
    inject_headers: bool = key(
        False,
        at="agent.inject_headers",
        help="Where there is a filter, answers get a header Pymirror-Agent that says whose they are: "
        "passed-through (the application's) or forwarded-to-client (the program's).",
    )
    drain: float = key(
        30.0,
        at="agent.drain",
        validator=not_negative,
        help="Seconds that what was passed on to the application may go on after the session.",
    )

    def __attrs_post_init__(self) -> None:
        if self.ports is not None and self.ignore_ports:
            raise ValueError("ports: cannot be given together with ignore_ports", "keep one of them")
        if self.tls_delivery is not None and self.https_delivery is not None:
            raise ValueError("https_delivery: cannot be given together with tls_delivery", "keep the latter")

    @property
    def delivery(self) -> Delivery | None:
        return self.tls_delivery or self.https_delivery

    @classmethod
    def from_short(cls, value: bool | str) -> Config:
        """`true`: the defaults; `false`: off; or the mode itself."""
        if isinstance(value, bool):
            return cls() if value else cls(mode="off")
        return cls(mode=value)

    def without_target(self) -> None:
        """ValueError where a session without a target cannot have this."""
        if self.mode == "steal":
            raise ValueError(
                "mode: there is nothing to steal from without a target",
                "name a target, or set feature.network.incoming to off",
            )

    def warnings(self) -> list[str]:
        """Allowed, but hardly meant (mirrord: 2.6)."""
        place = "feature.network.incoming"
        if self.mode == "off":
            return [f"{each} has no effect: {place} is off" for each in self._set(place)]
        found = [
            f"{place}.{name}: [{one}, {one}] has no effect"
            for name, pairs in (("port_mapping", self.port_mapping), ("listen_ports", self.listen_ports))
            for one, other in pairs
            if one == other
        ]
        if self.ports == []:
            found.append(f"{place}.ports is empty: no port of the target is taken")
        found += self._left_out(place)
        found += self.http_filter.warnings(f"{place}.http_filter")
        if self.mode == "mirror":
            found += [f"{each} has no effect: the mode is mirror" for each in self._stealing()]
            return found
        if self.inject_headers and not self.http_filter.given:
            found.append("agent.inject_headers has no effect: no filter is given")
        found += idle(self.tls, self.http_filter.concerns)
        if self.delivery is not None and not self.tls:
            found.append(f"{place}.tls_delivery has no effect: agent.tls names no port")
        return found

    def _left_out(self, place: str) -> list[str]:
        """Ports that one key names and another leaves out."""
        found, ports = [], self.ports
        for local, remote in self.port_mapping:
            pair = f"{place}.port_mapping: [{local}, {remote}] has no effect"
            if local in self.ignore_ports:
                found.append(f"{pair}: ignore_ports has {local}")
            if ports and remote not in ports:
                found.append(f"{pair}: ports is without {remote}")
        for port in self.http_filter.ports or ():
            if ports and port not in ports:
                found.append(f"{place}.http_filter.ports: {port} has no effect: ports is without it")
        return found

    def _set(self, place: str) -> list[str]:
        """Keys of this section that are not as by default."""
        named = (
            *("port_mapping", "ports", "ignore_ports", "listen_ports", "ignore_localhost", "http_filter"),
            *("probes", "tls_delivery", "https_delivery"),
        )
        unset: tuple[object, ...] = (None, [], False, HttpFilter(), WARN)
        return [f"{place}.{name}" for name in named if getattr(self, name) not in unset]

    def _stealing(self) -> list[str]:
        """Keys that only stolen ports have a use for, as far as they are set."""
        chosen: dict[str, object] = {
            f"agent.{name}": getattr(self, name) for name in ("flush_connections", "inject_headers", "tls")
        }
        chosen["feature.network.incoming.probes"] = self.probes != WARN
        chosen["feature.network.incoming.tls_delivery"] = self.delivery
        return [name for name, value in chosen.items() if value]


def summary(config: Config) -> str:
    """What it means, for the plan."""
    listed = ", ".join(map(str, config.ports or ()))
    whose = f"ports {listed}" if listed else "each port the program listens on"
    if config.http_filter.given:
        some = ", ".join(map(str, config.http_filter.ports or ()))
        whose += f" (of {some}: requests that match)" if some else " (requests that match)"
    if config.mode == "mirror":
        return f"mirror of {whose}"
    if config.tls:
        opened = ", ".join(str(port) for each in config.tls for port in each.ports)
        how = "plain" if config.delivery is not None and config.delivery.protocol == "tcp" else "by TLS"
        whose += f"; TLS of {opened} opened, and {how} to the program"
    open_ones = "end" if config.flush_connections else "stay with the application"
    return f"steal of {whose}; connections that are open {open_ones}"
