"""Messages as bytes: what is read of them, what is made, how long answers are kept."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymirror.features.network.dns import header, packets
from pymirror.features.network.dns.cache import Cache, older

SOA = "ns.x. root.x. 1 7200 1800 86400 7"


def query(name: str = "api.x.", kind: str = "A", **edns: object) -> bytes:
    made = dns.message.make_query(name, kind, id=0x1234)
    if edns:
        made.use_edns(0, **edns)  # type: ignore[arg-type]
    return made.to_wire()


def answer(
    asked: bytes,
    *records: tuple[str, int, str, str],
    authority: tuple[str, int, str, str] | None = None,
    code: int = 0,
) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(asked))
    for name, ttl, kind, data in records:
        made.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, data))
    if authority is not None:
        name, ttl, kind, data = authority
        made.authority.append(dns.rrset.from_text(name, ttl, "IN", kind, data))
    made.set_rcode(dns.rcode.Rcode(code))
    return made.to_wire()


def test_a_question() -> None:
    found = packets.read_question(query("Api.X.", "AAAA"))
    assert (found.name, found.kind, found.room) == ("Api.X", 28, 512)
    assert found.key == packets.read_question(query("api.x.", "AAAA")).key is not None


def test_what_tells_questions_apart() -> None:
    kinds = [
        query(),
        query(kind="AAAA"),
        query("b.x."),
        query(payload=1232),
        query(payload=1232, ednsflags=dns.flags.DO),
        bytes([*query()[:2], 0, *query()[3:]]),  # without RD
        bytes([*query()[:3], 0x10, *query()[4:]]),  # CD
    ]
    keys = {packets.read_question(wire).key for wire in kinds}
    assert len(keys) == len(kinds) and None not in keys
    assert packets.read_question(query(payload=4096)).key == packets.read_question(query(payload=1232)).key


def test_room_over_udp() -> None:
    assert packets.read_question(query(payload=4096)).room == 4096
    assert packets.read_question(query(payload=100)).room == 512


@pytest.mark.parametrize(
    "wire",
    [
        query(payload=1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]),
        query(kind="ANY"),
        query(kind="AXFR"),
        bytes([*query()[:2], 0x20, *query()[3:]]),  # NOTIFY
    ],
)
def test_what_is_for_one_client_has_no_key(wire: bytes) -> None:
    assert packets.read_question(wire).key is None


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        query()[:-1],
        query()[:12],
        bytes([*query()[:5], 2, *query()[6:]]),
        bytes([*query()[:12], 0xC0, 12, 0, 1, 0, 1]),
        answer(query()),
        query(payload=1232)[:-3],
    ],
)
def test_no_question(wire: bytes) -> None:
    with pytest.raises(ValueError):
        packets.read_question(wire)


@pytest.mark.parametrize(
    ("wire", "seconds", "addresses"),
    [
        (answer(query(), ("api.x.", 30, "A", "1.2.3.4")), 30, ("1.2.3.4",)),
        (answer(query(), ("api.x.", 30, "CNAME", "b.x."), ("b.x.", 9, "A", "1.2.3.4")), 9, ("1.2.3.4",)),
        (answer(query(kind="AAAA"), ("api.x.", 0, "AAAA", "fd77::1")), 0, ("fd77::1",)),
        (answer(query(kind="MX"), ("api.x.", 30, "MX", "1 b.x.")), 30, ()),
        (answer(query(kind="CNAME"), ("api.x.", 30, "CNAME", "b.x.")), 30, ()),
        (answer(query(), code=3, authority=("x.", 60, "SOA", SOA)), 7, ()),
        (answer(query(), code=3, authority=("x.", 3, "SOA", SOA)), 3, ()),
        (answer(query(), authority=("x.", 60, "SOA", SOA)), 7, ()),
        (answer(query(), ("api.x.", 5, "CNAME", "b.x."), authority=("x.", 60, "SOA", SOA)), 5, ()),
        (answer(query(), ("api.x.", 5, "CNAME", "b.x.")), 0, ()),
        (answer(query(), code=3), 0, ()),
        (answer(query(), authority=("x.", 60, "NS", "ns.x.")), 0, ()),
        (answer(query(), code=2, authority=("x.", 60, "SOA", SOA)), 0, ()),
        (answer(query(), ("api.x.", 2**31 - 1, "A", "1.2.3.4")), 2**31 - 1, ("1.2.3.4",)),
        (
            answer(query(kind="HTTPS"), ("api.x.", 30, "HTTPS", "1 . alpn=h2 ipv4hint=1.2.3.4,1.2.3.5 ipv6hint=fd77::1")),
            30,
            ("1.2.3.4", "1.2.3.5", "fd77::1"),
        ),
        (answer(query(kind="HTTPS"), ("api.x.", 30, "HTTPS", "0 b.x.")), 30, ()),
    ],
)  # fmt: skip
def test_what_an_answer_tells(wire: bytes, seconds: int, addresses: tuple[str, ...]) -> None:
    told = packets.read_answer(wire)
    assert (told.seconds, told.addresses) == (seconds, addresses)


def test_a_time_with_its_first_bit_set_is_none() -> None:
    wire = answer(query(), ("api.x.", 1, "A", "1.2.3.4"))
    [place] = packets.read_answer(wire).ttls
    assert packets.read_answer(wire[:place] + b"\xff\0\0\0" + wire[place + 4 :]).seconds == 0


def test_truncated_answers_are_not_kept() -> None:
    wire = answer(query(), ("api.x.", 30, "A", "1.2.3.4"))
    assert packets.read_answer(header.shortened(query(), wire)).seconds == 0


def test_shortened_for_udp() -> None:
    asked = query("api.x.", "TXT", payload=1232)
    whole = answer(asked, ("api.x.", 30, "TXT", '"abc"'))
    short = dns.message.from_wire(header.shortened(asked, whole, packets.extension(whole)))
    assert short.flags & dns.flags.TC and short.id == 0x1234 and not short.answer and short.edns == 0
    assert short.question == dns.message.from_wire(asked).question
    assert dns.message.from_wire(header.shortened(query(), whole)).edns == -1


@pytest.mark.parametrize("code", [header.FORMERR, header.SERVFAIL, header.NOTIMP])
def test_failures(code: int) -> None:
    made = dns.message.from_wire(header.failure(query(payload=1232), code))
    assert (
        made.rcode() == code and made.id == 0x1234 and made.flags & dns.flags.QR and len(made.question) == 1
    )
    assert len(header.failure(query()[:14], code)) == 12


def test_whose_answer() -> None:
    asked = query("Api.x.")
    good = answer(asked, ("Api.x.", 1, "A", "1.2.3.4"))
    assert header.is_answer(asked, good) and header.is_answer(query("aPI.x."), good)
    wrong = [
        b"",
        asked,
        good[:20],
        b"\0\0" + good[2:],
        answer(query("b.x.")),
        answer(query("api.x.", "AAAA")),
    ]
    assert not any(header.is_answer(asked, wire) for wire in wrong)
    assert header.is_answer(asked, asked[:2] + b"\x80\x01" + bytes(8))  # FORMERR without its question
    assert not header.is_answer(asked, asked[:2] + b"\x80\x00" + bytes(8))


def test_the_answer_is_spelled_as_the_question() -> None:
    kept = answer(query("api.x."), ("api.x.", 1, "A", "1.2.3.4"))
    other = b"\x99\x88" + query("aPi.X.")[2:]
    made = header.renumbered(kept, other)
    assert header.is_answer(other, made) and made[:2] == b"\x99\x88" and b"\x03aPi\x01X" in made
    assert header.renumbered(kept[:2] + b"\x80\x01" + bytes(8), other)[:2] == b"\x99\x88"


@given(st.binary(max_size=80))
def test_garbage_is_a_valueerror_or_nothing(wire: bytes) -> None:
    try:
        packets.read_question(wire)
    except ValueError:
        pass
    packets.read_answer(wire)
    header.is_answer(query(), wire)


@given(st.data())
def test_garbled_messages_are_a_valueerror_or_nothing(data: st.DataObject) -> None:
    """Single bytes of real messages changed, and their ends cut off."""
    whole = data.draw(
        st.sampled_from(
            [
                query(payload=1232),
                answer(query(), ("api.x.", 30, "CNAME", "b.x."), ("b.x.", 9, "A", "1.2.3.4")),
                answer(query(kind="HTTPS"), ("api.x.", 30, "HTTPS", "1 . ipv4hint=1.2.3.4")),
                answer(query(), code=3, authority=("x.", 60, "SOA", SOA)),
            ]
        )
    )
    wire = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if wire else 0):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    test_garbage_is_a_valueerror_or_nothing.hypothesis.inner_test(bytes(wire))  # type: ignore[attr-defined]
    told = packets.read_answer(bytes(wire))
    assert len(older(bytes(wire), told.ttls, 1)) == len(wire)


def test_times_are_counted_down() -> None:
    asked = query()
    wire = answer(asked, ("api.x.", 30, "CNAME", "b.x."), ("b.x.", 10, "A", "1.2.3.4"))
    told = packets.read_answer(wire)
    cache = Cache(10)
    cache.put("k", wire, told.ttls, told.seconds, now=100.0)
    assert cache.get("k", 100.0) == wire
    kept = cache.get("k", 104.9)
    assert kept is not None
    assert [rrset.ttl for rrset in dns.message.from_wire(kept).answer] == [26, 6]
    assert cache.get("k", 109.9) is not None and cache.get("k", 110.0) is None and len(cache) == 0


def test_the_cache_is_bounded() -> None:
    cache = Cache(3, most_bytes=25)
    for number in range(3):
        cache.put(number, b"12345678", (), 5, now=0)
    assert cache.get(0, 1) and len(cache) == 3
    cache.put(3, b"1", (), 5, now=0)  # one too many: the one that was not used goes
    assert cache.get(1, 1) is None and cache.get(0, 1) and cache.get(3, 1)
    cache.put(4, b"1" * 20, (), 5, now=0)
    assert cache.get(2, 1) is None and cache.get(0, 1) is None and cache.get(3, 1) and cache.get(4, 1)
    cache.put(4, b"1" * 26, (), 5, now=0)
    assert len(cache) == 0
    cache.put(5, b"1", (), 5, now=0)
    cache.put(5, b"1", (), 0, now=0)
    assert cache.get(5, 0) is None
    cache.put(6, b"1", (), 5, now=0)
    cache.clear()
    assert cache.get(6, 0) is None
    off = Cache(0)
    off.put(1, b"1", (), 5, now=0)
    assert off.get(1, 0) is None
    cache.put(7, b"1", (), 10**9, now=0)
    assert cache.get(7, 86_399) and cache.get(7, 86_400) is None
