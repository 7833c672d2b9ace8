"""The keys of `feature.network.outgoing` (mirrord: 2.4 outgoing, part 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from pymirror.core.config import every, key, not_negative, positive, regex
from pymirror.core.errors import ConfigError
from pymirror.features.network import debuggers
from pymirror.features.network.filter import OneSided, doubtful, parse
from pymirror.features.network.outgoing.forms import advice


def _entry(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(str(error), advice(text)) from None


def _entries(instance: object, attribute: Any, value: list[str] | None) -> None:
    if value is not None and not value:
        raise ValueError(f"{attribute.name}: is empty; leave the filter out to send everything to the target")
    every(_entry)(instance, attribute, value)


DNS = 53
MOST = 8000
"""A session carries 8192 streams (core/mux.py), and other features have some."""


def _carried(instance: object, attribute: Any, value: int) -> None:
    positive(instance, attribute, value)
    if value > MOST:
        raise ValueError(f"{attribute.name}: must not be above {MOST}, got {value}")


@frozen
class Filter(OneSided):
    """Exactly one of the two."""

    remote: list[str] | None = key(
        None, validator=_entries, help="Destinations reached from the target; all others from this machine."
    )
    local: list[str] | None = key(
        None, validator=_entries, help="Destinations reached from this machine; all others from the target."
    )


def _patterns(instance: object, attribute: Any, value: list[str]) -> None:
    regex(instance, attribute, value)
    if "" in value:
        raise ValueError(
            f"{attribute.name}: an empty pattern matches every socket; write '.' if that is meant"
        )


@frozen
class Config:
    """Which outgoing traffic leaves from the target."""

    variables: ClassVar = ("DETECT_DEBUGGER_PORT", "IGNORE_DEBUGGER_PORTS")

    tcp: bool = key(True, env="TCP_OUTGOING", help="TCP connections leave from the target.")
    udp: bool = key(True, env="UDP_OUTGOING", help="UDP datagrams leave from the target.")
    ignore_localhost: bool = key(False, help="Loopback destinations stay on this machine.")
    filter: Filter | None = key(
        None, help="[tcp|udp|any://][name | ip | [ipv6] | cidr][:port], under remote or under local."
    )
    unix_streams: list[str] = key(
        factory=list,
        env="OUTGOING_REMOTE_UNIX_STREAMS",
        validator=_patterns,
        help="Unix sockets of the target: regular expressions for a path or an abstract name.",
    )
    connect_timeout: float = key(
        0.0,
        validator=not_negative,
        help="Seconds for a connection to be made; 0: as the target's kernel has it.",
    )
    nonblocking_wait: float = key(
        0.5,
        validator=not_negative,
        help="Seconds a non-blocking connect may wait for its true result; the program is held that long.",
    )
    max_connections: int = key(
        4096,
        validator=_carried,
        help="Connections and flows of datagrams at once, up to 8000; more get EADDRNOTAVAIL.",
    )

    settle_timeout: float = key(
        30.0,
        validator=not_negative,
        help="Seconds after the program's end in which the target may take what it sent.",
    )

    @classmethod
    def environment(cls, values: Mapping[str, str]) -> dict[str, Any]:
        """None of them is a field; a value that cannot be used is refused."""
        for name, check in (
            ("DETECT_DEBUGGER_PORT", debuggers.kinds),
            ("IGNORE_DEBUGGER_PORTS", debuggers.ranges),
        ):
            try:
                check(values.get(name, ""))
            except ValueError as error:
                raise ConfigError(f"PYMIRROR_{name}", str(error), "MIRRORD_ is the same") from None
        return {}

    def warnings(self) -> list[str]:
        """Allowed, but hardly meant."""
        if self.filter is None:
            return []
        if not (self.tcp or self.udp):
            return ["feature.network.outgoing.filter has no effect: tcp and udp are off"]
        entries = self.filter.entries
        place = f"feature.network.outgoing.filter.{self.filter.side}"
        found = [f"{place}: {words}" for words in doubtful(entries)]
        off = {name for name in ("tcp", "udp") if not getattr(self, name)}
        for text in entries:
            if parse(text).port == DNS:
                found.append(f"{place}: {text!r} has no effect with feature.network.dns, whose port 53 is")
            if (transport := parse(text).transport) in off:
                found.append(f"{place}: {text!r} has no effect: feature.network.outgoing.{transport} is off")
        return found


def summary(config: Config) -> str:
    """What it means, for the plan."""
    kinds = " and ".join(name.upper() for name in ("tcp", "udp") if getattr(config, name)) or "unix sockets"
    if config.filter is None:
        return f"{kinds} from the target"
    if config.filter.remote is not None:
        return f"{kinds} from the target for {_entries_of(config.filter.remote)}, else from here"
    return f"{kinds} from the target, except {_entries_of(config.filter.local or ())}"


def _entries_of(entries: Sequence[str]) -> str:
    return "1 filter entry" if len(entries) == 1 else f"{len(entries)} filter entries"
