"""For an entry of a filter that does not parse: the nearest form that does, as a question. Pure.

Each rewriting mends one habit (a URL, Docker's `80/tcp`, a mask, a wildcard) and leaves all else as it
is; they are tried one after the other, each on what the ones before made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from pymirror.features.network.filter import TRANSPORTS, parse

FORM = "an entry is [tcp|udp|any://][name | ip | [ipv6] | cidr][:port]"
PORTS = {
    "http": 80, "ws": 80, "https": 443, "wss": 443, "domain": 53, "dns": 53, "ssh": 22, "mysql": 3306,
    "postgres": 5432, "postgresql": 5432, "redis": 6379, "amqp": 5672, "mongodb": 27017,
}  # fmt: skip
_PROTOCOL = re.compile(rf"({'|'.join(TRANSPORTS)})(?::/?|//)(?!/)(.*)", re.IGNORECASE)


def advice(text: str) -> str:
    """A question or, where nothing is near, what an entry may be."""
    if not text.strip():
        return FORM
    parts = [part for part in re.split(r"[\s,;]+", text) if part]
    if len(parts) > 1 and all(map(_parses, parts)):
        return f"give each an entry of its own: {', '.join(map(repr, parts))}"
    for rewrite in REWRITES:
        before, text = text.strip(), rewrite(text.strip()).strip()
        if text != before and _parses(text):
            return f"did you mean {text!r}?"
    if "*" in text:
        return f"names are given whole, or as a network; {FORM}"
    return FORM


def _parses(text: str) -> bool:
    with suppress(ValueError):
        parse(text)
        return True
    return False


def _protocol(text: str) -> str:
    """tcp:db, tcp:/db, tcp//db and Docker's db:80/tcp."""
    if found := re.fullmatch(r"(.*)/(tcp|udp)", text, re.IGNORECASE):
        return f"{found[2]}://{found[1]}"
    found = _PROTOCOL.fullmatch(text)
    return f"{found[1]}://{found[2]}" if found else text


def _url(text: str) -> str:
    """http://user@db/path: the host, and the port that the scheme stands for."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() in TRANSPORTS:
        return text
    host = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    port = PORTS.get(scheme.lower())
    return f"tcp://{host}" if port is None or re.search(r":\d+$", host) else f"tcp://{host}:{port}"


def _port(text: str) -> str:
    """A port by its name, one that is missing, and a number alone."""
    if found := re.fullmatch(r"(\w+://)?([0-9]+)", text):
        return f"{found[1] or ''}:{found[2]}"
    head, colon, name = text.rpartition(":")
    if not colon or name.startswith("//") or name.endswith("]"):
        return text
    return head if not name else f"{head}:{PORTS[name.lower()]}" if name.lower() in PORTS else text


def _brackets(text: str) -> str:
    """One of the two is missing, something stands between them and the port, or they hold no IPv6 address."""
    found = re.fullmatch(r"(\w+://)?\[?([^\[\]]*)\]?[^\[\]:]*(:\d+)?", text)
    if found is None or not set(text) & set("[]"):
        return text
    before, host, port = found[1] or "", found[2], found[3] or ""
    return f"{before}[{host}]{port}" if ":" in host else f"{before}{host}{port}"


def _zone(text: str) -> str:
    return re.sub(r"%[^\]/:]*", "", text)


def _stars(text: str) -> str:
    """10.1.* and 10.1.: the network; a star alone: any address."""
    found = re.fullmatch(r"(\w+://)?([\d.]*?)((?:\.?\*)*|\.)((?::\d+)?)", text)
    if found is None:
        return text
    known = [part for part in found[2].split(".") if part]
    if not known:
        return f"{found[1] or ''}{found[4]}" or "0.0.0.0/0"
    if len(known) >= 4:
        return text
    network = ".".join(known + ["0"] * (4 - len(known)))
    return f"{found[1] or ''}{network}/{8 * len(known)}{found[4]}"


def _mask(text: str) -> str:
    """A prefix longer than the address."""
    longest = 128 if text.count(":") > 1 else 32
    return re.sub(r"/(\d+)(?=\]?(:\d+)?$)", lambda found: f"/{min(int(found[1]), longest)}", text)


def _dots(text: str) -> str:
    return re.sub(r"\.{2,}", ".", text)


def _other_letters(text: str) -> str:
    """A name in other letters, as it is on the wire."""
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode()
    except UnicodeError:
        return text


REWRITES: tuple[Callable[[str], str], ...] = (
    _protocol, _url, _port, _brackets, _zone, _stars, _mask, _dots, _other_letters,
)  # fmt: skip
