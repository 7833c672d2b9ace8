"""The grammar of a filter's entry beside a second reading of it, made of inet_pton and bits."""

from __future__ import annotations

import ast
import ipaddress
import re
import socket
import string

from attrs import frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymirror.features.network.filter import Entry, matching, parse
from pymirror.features.network.outgoing.forms import advice

BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}
EXAMPLES = 400


@frozen
class Read:
    """family 0: any address, or `name`'s. value: the network's bits, `prefix` of them counted."""

    transport: str
    port: int
    name: str = ""
    family: int = 0
    value: int = 0
    prefix: int = 0

    def matches(self, transport: str, family: int, value: int, port: int, names: set[str]) -> bool:
        if self.transport not in ("any", transport) or self.port not in (0, port):
            return False
        if self.name:
            return self.name in names
        kept = BITS[self.family] - self.prefix if self.family else 0
        return not self.family or (family == self.family and value >> kept == self.value >> kept)


def number(family: int, text: str) -> int | None:
    try:
        return int.from_bytes(socket.inet_pton(family, text), "big")
    except (OSError, ValueError):
        return None


def prefix_of(text: str, bits: int) -> int | None:
    """A length, or for IPv4 a mask: ones before zeros, or the reverse."""
    if text.isascii() and text.isdigit():
        return int(text) if int(text) <= bits else None
    mask = number(socket.AF_INET, text) if bits == 32 else None
    for ones in range(33) if mask is not None else ():
        if mask in ((1 << 32) - (1 << 32 - ones), (1 << 32 - ones) - 1):
            return ones
    return None


def network(text: str) -> tuple[int, int, int] | None:
    address, slash, length = text.partition("/")
    for family, bits in BITS.items():
        value = number(family, address)
        if value is not None:
            prefix = prefix_of(length, bits) if slash else bits
            return None if prefix is None else (family, value, prefix)
    return None


def read(text: str) -> Read | None:
    """None: it is no entry."""
    found = re.fullmatch(r"(?i:(tcp|udp|any)://)?(.*)", text.strip(), re.DOTALL)
    assert found is not None
    transport, rest = (found[1] or "any").lower(), found[2]
    if not rest:
        return Read(transport, 0) if found[1] else None
    if not rest.startswith("[") and rest.count(":") > 1:
        host, port = rest, "0"
    elif parts := re.fullmatch(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]+))?", rest):
        host, port = parts[1], parts[2] or "0"
    else:
        return None
    if int(port) > 65535:
        return None
    return hosted(Read(transport, int(port)), host)


def hosted(entry: Read, host: str) -> Read | None:
    if not host:
        return entry
    transport, port = entry.transport, entry.port
    inner = host[1:-1] if host.startswith("[") else host
    if net := network(inner):
        family, value, prefix = net
        if value >> BITS[family] - prefix == 0 and (prefix == 0 or (value == 0 and prefix == BITS[family])):
            return entry
        return Read(transport, port, "", family, value, prefix)
    labels = inner.rstrip(".").lower().split(".")
    if host.startswith("[") or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        return None
    return (
        None
        if labels[-1].isdigit() or len(".".join(labels)) > 253
        else Read(transport, port, ".".join(labels))
    )


v4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
v6 = st.one_of(
    st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n))),
    st.sampled_from(["::", "::1", "fd00::1", "fe80::", "::ffff:10.0.0.1", "2001:DB8::A", "1:2:3:4:5:6:7::"]),
)
lengths = st.one_of(
    st.just(""),
    st.integers(0, 130).map(lambda n: f"/{n}"),
    st.sampled_from(["/255.0.0.0", "/0.0.0.255", "/255.0.255.0", "/"]),
)
labels = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
hosts = st.one_of(
    st.builds("{}{}".format, v4, lengths),
    st.builds("[{}{}]".format, v6, lengths),
    st.builds("{}{}".format, v6, lengths),
    names,
    names.map("{}.".format),
    st.sampled_from(["", "0.0.0.0", "[::]", "0.0.0.0/0", "[::]/0", "[db]", "*"]),
)
schemes = st.sampled_from(["", "tcp://", "UDP://", "any://", "http://", "://", "tcp:"])
ports = st.one_of(
    st.just(""),
    st.integers(0, 70000).map(lambda n: f":{n}"),
    st.sampled_from([":", ":http", ":080", ":-1", ":٣"]),
)
wellformed = st.builds("{}{}{}".format, schemes, hosts, ports)
noise = st.text("tcpudany:/[]0123456789.abf-_%* ", max_size=24)
mangled = st.builds(
    lambda text, at, extra: text[: at % (len(text) + 1)] + extra + text[at % (len(text) + 1) :],
    wellformed, st.integers(0, 60), st.text(":/[].*% 0a", max_size=2),
)  # fmt: skip
texts = st.one_of(wellformed, mangled, noise)


def parsed(text: str) -> Entry | None:
    try:
        return parse(text)
    except ValueError:
        return None


@settings(max_examples=EXAMPLES, deadline=None)
@given(texts)
@example("[::1]80")
@example("tcp://[fd00::/8]:443")
def test_both_readings_take_the_same_for_an_entry_and_for_the_same_entry(text: str) -> None:
    entry, wanted = parsed(text), read(text)
    assert (entry is None) == (wanted is None)
    if entry is None or wanted is None:
        return
    assert (entry.transport, entry.port, entry.name or "") == (wanted.transport, wanted.port, wanted.name)
    assert entry.text == text


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_both_match_the_same_destinations(data: st.DataObject) -> None:
    text = data.draw(wellformed)
    entry, wanted = parsed(text), read(text)
    if entry is None or wanted is None:
        return
    family = data.draw(st.sampled_from([wanted.family or socket.AF_INET, *BITS]))
    near = wanted.value if family == wanted.family else 0
    flipped = data.draw(st.integers(0, BITS[family]))
    value = near ^ (1 << flipped >> 1)  # the network's own address, or one bit beside
    address = ipaddress.IPv4Address(value) if family == socket.AF_INET else ipaddress.IPv6Address(value)
    transport = data.draw(st.sampled_from(["tcp", "udp"]))
    port = data.draw(st.sampled_from([wanted.port or 1, 80, 65535]))
    known = data.draw(st.sampled_from([set(), {wanted.name.upper() + "."}, {"x" + wanted.name}]))
    found = matching([entry], transport, address, port, known)
    said = {name.rstrip(".").lower() for name in known} - {""}
    assert (found is entry) == wanted.matches(transport, family, value, port, said)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.one_of(mangled, noise, st.text(max_size=20)))
def test_what_is_offered_instead_is_an_entry(text: str) -> None:
    if parsed(text) is None and (offered := re.fullmatch(r"did you mean (.*)\?", advice(text))):
        assert read(ast.literal_eval(offered[1])) is not None


@settings(max_examples=EXAMPLES, deadline=None)
@given(wellformed.filter(lambda text: parsed(text) is not None))
def test_an_entry_read_again_from_its_parts_is_the_same(text: str) -> None:
    entry = parse(text)
    host = entry.name or (f"[{entry.network}]" if entry.network is not None else "")
    again = parse(f"{entry.transport}://{host}:{entry.port}")
    assert (again.transport, again.name, again.network, again.port) == (
        entry.transport,
        entry.name,
        entry.network,
        entry.port,
    )
