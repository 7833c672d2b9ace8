"""The keys that steer TLS on stolen ports: `agent.tls`, and `tls_delivery` of the section (mirrord: 2.4)."""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from pymirror.core.config import every
from pymirror.core.config import key as a_key
from pymirror.features.network.incoming.tls_hello import NAME


def _port(value: int) -> None:
    if not 0 < value < 1 << 16:
        raise ValueError(f"{value} is no port", "a port is a number from 1 to 65535")


def _ports(instance: object, attribute: Any, value: list[int]) -> None:
    if not value:
        raise ValueError(f"{attribute.name}: is empty; name the ports that speak TLS with this certificate")
    every(_port)(instance, attribute, value)


def _in_target(_instance: object, attribute: Any, value: str) -> None:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(
            f"{attribute.name}: {value!r} is no absolute path", "it is looked up in the target's files"
        )


@frozen
class Tls:
    """Ports of the target that speak TLS, with what its application proves itself by."""

    ports: list[int] = a_key(validator=_ports, help="Ports of the target.")
    certificate: str = a_key(
        validator=_in_target, help="Absolute path in the target's files: PEM, its issuers after it."
    )
    key: str = a_key(validator=_in_target, help="The same of its private key (PEM, not encrypted).")
    application: Literal["same", "any"] = a_key(
        "same",
        help="same: where the application shows another certificate, its connections are left as they are; "
        "any: they are opened all the same.",
    )


def once_each(_instance: object, attribute: Any, value: list[Tls]) -> None:
    """Validator: no port is in two entries."""
    seen: set[int] = set()
    for number, entry in enumerate(value, 1):
        for port in entry.ports:
            if port in seen:
                raise ValueError(
                    f"{attribute.name}: entry {number}, port {port} is there twice", "leave one of them out"
                )
            seen.add(port)


def _name(_instance: object, attribute: Any, value: str | None) -> None:
    if value is not None and not NAME.fullmatch(value):
        raise ValueError(f"{attribute.name}: {value!r} is no name of a server", "for example web.example.com")


def _roots(_instance: object, attribute: Any, value: list[str] | None) -> None:
    if value is not None and not value:
        raise ValueError(f"{attribute.name}: is empty; leave it out to trust any certificate")


@frozen
class Delivery:
    """How what came by TLS reaches the program."""

    protocol: Literal["tls", "tcp"] = a_key(
        help="tls: by TLS of its own, as the program expects it; tcp: plain."
    )
    trust_roots: list[str] | None = a_key(
        None,
        validator=_roots,
        help="Files of this machine, or folders of *.pem: one of them issued the program's certificate. "
        "Neither this nor server_cert: any is trusted.",
    )
    server_cert: str | None = a_key(
        None, help="File of this machine: the program's certificate must be this one (PEM)."
    )
    server_name: str | None = a_key(
        None, validator=_name, help="Name the program is asked for; else the client's, else localhost."
    )

    def __attrs_post_init__(self) -> None:
        if self.trust_roots is not None and self.server_cert is not None:
            raise ValueError("trust_roots: cannot be given together with server_cert", "keep one of them")


def idle(entries: list[Tls], filtered: Any) -> list[str]:
    """Warnings for ports that are not opened, as nothing there is decided. filtered: is that port?"""
    return [
        f"agent.tls[{number}].ports: {port} has no effect: feature.network.incoming.http_filter "
        "does not filter that port, which is taken whole"
        for number, entry in enumerate(entries)
        for port in entry.ports
        if not filtered(port)
    ]
