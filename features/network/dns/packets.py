"""DNS messages as the layer half looks at them: what is asked, and what an answer tells. Pure.

Names are read by dnspython, within its bounds; whatever it refuses is a ValueError here. Imported
when a session begins, not with the plug-ins: dnspython takes longer to import than all else in them.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Hashable, Iterator

import dns.exception
import dns.name
from attrs import field, frozen

from pymirror.features.network.dns import header

A, SOA, AAAA, OPT, HTTPS, ANY = 1, 6, 28, 41, 65, 255
CNAME = 5
TRANSFERS = (251, 252)
IN = 1
PLAIN = 512
"""Bytes of an answer over UDP for who does not say more (RFC 1035)."""
_IPV4_HINT, _IPV6_HINT = 4, 6
_FIXED = struct.Struct("!HHIH")
_KEY_FLAGS = 0x0130  # RD, AD, CD


@frozen
class Question:
    """A query. name: as text, without a final dot. room: bytes of an answer its UDP socket takes.

    key: queries of one key have one answer; None where that is not sure (options of EDNS are
    for one client).
    """

    name: str
    kind: int
    room: int = PLAIN
    key: Hashable = None


@frozen
class Record:
    """kind: type of the record. ttl: where its time to live stands. data: where its data begins."""

    section: int
    kind: int
    ttl: int
    seconds: int
    data: int
    size: int


@frozen
class Told:
    """What an answer tells. seconds: how long it may be kept, 0: not at all. ttls: see cache.Kept."""

    seconds: int = 0
    ttls: tuple[int, ...] = ()
    addresses: tuple[str, ...] = field(default=())


def read_question(wire: bytes) -> Question:
    """ValueError: this is no query with one question."""
    end = header.question_end(wire)
    if wire[2] & header.RESPONSE:
        raise ValueError("an answer where a query should be")
    name = _name(wire, header.HEADER)[0].to_text(omit_final_dot=True)
    extension = next((r for r in records(wire) if r.kind == OPT), None)
    kind, group = (int.from_bytes(wire[place : place + 2], "big") for place in (end - 4, end - 2))
    flags = int.from_bytes(wire[2:4], "big")
    asks = not wire[2] & header.OPCODE and group == IN and kind not in (ANY, *TRANSFERS)
    more = wire[10:12] != (b"\0\0" if extension is None else b"\0\1")  # TSIG, SIG(0)
    key: Hashable = None
    if asks and not more and (extension is None or not extension.size):
        key = (name.lower(), kind, flags & _KEY_FLAGS, None if extension is None else extension.seconds)
    if extension is None:
        return Question(name, kind, PLAIN, key)
    room = int.from_bytes(wire[extension.ttl - 2 : extension.ttl], "big")
    return Question(name, kind, max(room, PLAIN), key)


def extension(wire: bytes) -> bytes:
    """The OPT record of a message, whose name is always the root; empty if it has none."""
    try:
        found = next((r for r in records(wire) if r.kind == OPT), None)
    except ValueError:
        return b""
    return wire[found.ttl - 5 : found.data + found.size] if found is not None else b""


def read_answer(wire: bytes) -> Told:
    """What of an answer concerns whoever passes it on; nothing, if it cannot be read."""
    try:
        found = list(records(wire))
        kind = int.from_bytes(wire[(end := header.question_end(wire)) - 4 : end - 2], "big")
        seconds = 0 if header.is_truncated(wire) else _seconds(wire, found, kind)
        addresses = tuple(address for r in found if r.section == 0 for address in _addresses(wire, r))
    except ValueError:
        return Told()
    return Told(seconds, tuple(r.ttl for r in found if r.kind != OPT), addresses)


def records(wire: bytes) -> Iterator[Record]:
    """Of all sections after the question, in order. ValueError when one is cut short or unreadable."""
    place = header.question_end(wire)
    for section in range(3):
        for _ in range(int.from_bytes(wire[6 + 2 * section : 8 + 2 * section], "big")):
            place += _name(wire, place)[1]
            if place + _FIXED.size > len(wire):
                raise ValueError("a record is cut short")
            kind, _group, seconds, size = _FIXED.unpack_from(wire, place)
            data = place + _FIXED.size
            if data + size > len(wire):
                raise ValueError("a record's data are cut short")
            yield Record(section, kind, place + 4, seconds, data, size)
            place = data + size


def _name(wire: bytes, place: int) -> tuple[dns.name.Name, int]:
    """The name and how many bytes it takes there."""
    try:
        return dns.name.from_wire(wire, place)
    except (dns.exception.DNSException, IndexError) as error:
        raise ValueError(f"a name that cannot be read: {error or type(error).__name__}") from None


def _seconds(wire: bytes, found: list[Record], kind: int) -> int:
    """RFC 2181, 8: a time with its first bit set is 0. RFC 2308: what is not there is kept as SOA says."""
    code = header.rcode(wire)
    answers = [r for r in found if r.section == 0]
    if code not in (header.NOERROR, header.NXDOMAIN):
        return 0
    times = [r.seconds for r in answers]
    if code == header.NXDOMAIN or not any(r.kind == kind or kind == CNAME for r in answers):
        soa = next((r for r in found if r.section == 1 and r.kind == SOA and r.size >= 22), None)
        if soa is None:
            return 0
        minimum = int.from_bytes(wire[soa.data + soa.size - 4 : soa.data + soa.size], "big")
        times += [soa.seconds, minimum]
    return min((0 if time >> 31 else time for time in times), default=0)


def _addresses(wire: bytes, record: Record) -> Iterator[str]:
    data = wire[record.data : record.data + record.size]
    if (record.kind, len(data)) in ((A, 4), (AAAA, 16)):
        yield str(ipaddress.ip_address(data))
    elif record.kind == HTTPS and len(data) > 2:
        yield from _hints(data[2 + _name(data, 2)[1] :])


def _hints(parameters: bytes) -> Iterator[str]:
    """Addresses in the parameters of an HTTPS record (RFC 9460): key, length, value, and so on."""
    while parameters:
        key, length = int.from_bytes(parameters[:2], "big"), int.from_bytes(parameters[2:4], "big")
        value, parameters = parameters[4 : 4 + length], parameters[4 + length :]
        size = {_IPV4_HINT: 4, _IPV6_HINT: 16}.get(key)
        if size and len(value) % size == 0:
            for place in range(0, len(value), size):
                yield str(ipaddress.ip_address(value[place : place + size]))
