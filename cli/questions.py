"""What `explain` is asked, as the calls a program would make.

What cannot be read is refused with the argument and the form expected, so that no answer is about
something else than was meant.
"""

from __future__ import annotations

import ipaddress
import os
import posixpath

from pymirror.core.call import Address, Call
from pymirror.core.errors import UserError
from pymirror.core.hosts import is_name

FORMS = {
    "path": "a path is absolute, or relative to the directory here: /etc/hosts",
    "env": "a variable is given by its name alone: PATH",
    "address": "an address is [tcp|udp://]HOST:PORT, with IPv6 in brackets (tcp://[fd00::1]:443, db:5432), "
    "or unix:///PATH (unix://@NAME for an abstract one)",
    "bind": "an address to listen on is given as HOST:PORT, by number: 0.0.0.0:8080, [::]:8080",
    "name": "a name is given whole and alone, as a program asks for it: db.shop",
    "hostname": "pymirror explain hostname",
}


def calls(what: str, names: tuple[str, ...]) -> list[tuple[str, Call]]:
    """(argument, call) for each call that is asked about; UserError for the first argument that is wrong."""
    if what == "hostname":
        if names:
            raise UserError(f"explain hostname: {names[0]!r} is too much, it takes no names", FORMS[what])
        return [("", Call("hostname"))]
    if not names:
        raise UserError(f"explain {what} needs at least one name", FORMS[what])
    found = []
    for name in names:
        try:
            if not name:
                raise ValueError("is empty")
            found += [(name, call) for call in READ[what](name)]
        except ValueError as error:
            raise UserError(f"explain {what}: {name!r}: {error}", FORMS[what]) from None
    return found


def _path(text: str) -> list[Call]:
    """Read, and written."""
    path = os.fsencode(posixpath.normpath(os.path.abspath(text)))
    return [Call("open", path), Call("open", path, write=True)]


def _variable(text: str) -> list[Call]:
    if "=" in text:
        raise ValueError("is no variable's name")
    return [Call("env", os.fsencode(text))]


def _name(text: str) -> list[Call]:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        if not is_name(text.removesuffix(".")):
            raise ValueError("is no host's name") from None
        return [Call("name", os.fsencode(text))]
    raise ValueError(f"an address is never looked up; its reverse lookup asks for {address.reverse_pointer}")


def _destination(text: str) -> list[Call]:
    """Its connects: over TCP and UDP if it does not say which."""
    scheme, separator, rest = text.rpartition("://")
    scheme = scheme.lower()
    if scheme == "unix":
        if rest in ("", "@"):
            raise ValueError("has no path")
        path = "\0" + rest[1:] if rest.startswith("@") else rest
        return [Call("connect", os.fsencode(path), transport="unix")]
    if separator and scheme not in ("tcp", "udp"):
        raise ValueError(f"the protocol {scheme!r} is not one of tcp, udp, unix")
    address = _address(rest)
    return [
        Call("connect", transport=each, address=address) for each in ([scheme] if scheme else ["tcp", "udp"])
    ]


def _own(text: str) -> list[Call]:
    address = _address(text)
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        raise ValueError(f"{address.host!r} is no address") from None
    return [Call("bind", transport="tcp", address=address)]


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        raise ValueError("has no port")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{port!r} is no port, which is a number up to 65535")
    return Address(_host(host), int(port))


def _host(text: str) -> str:
    """As an engine gives it: an address in its shortest form, an IPv4-mapped one as IPv4."""
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        found = ipaddress.ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        if bracketed:
            raise ValueError(f"{text!r} is no IPv6 address in brackets") from None
        if not is_name(text.removesuffix(".")):
            raise ValueError(f"{text!r} is no host's name or address" if text else "has no host") from None
        return text
    if bracketed != (found.version == 6):
        words = (
            "an IPv6 address stands in brackets" if found.version == 6 else "brackets are for IPv6 addresses"
        )
        raise ValueError(words)
    return str(getattr(found, "ipv4_mapped", None) or found)


READ = {"path": _path, "env": _variable, "name": _name, "address": _destination, "bind": _own}
