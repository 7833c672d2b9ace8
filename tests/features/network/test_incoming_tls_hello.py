"""What is read of a client's first TLS message, whole, in pieces, and where it is none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_things import asking

from pymirror.features.network.incoming.tls_hello import MOST, RECORDS, Hello, NoHello, hello_of


def said(name: str | None = "web.example", *protocols: str, most: str = "TLSv1_3") -> bytes:
    """OpenSSL's."""
    context = asking(*protocols)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion[most]
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, False, name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


@pytest.mark.parametrize("most", ["TLSv1_2", "TLSv1_3"])
def test_name_and_protocols(most: str) -> None:
    assert hello_of(said("web.example", "h2", "http/1.1", most=most)) == Hello(
        "web.example", ("h2", "http/1.1"), True
    )
    assert hello_of(said(None, most=most)) == Hello("", (), True)


def test_every_beginning_of_one_needs_more() -> None:
    data = said("web.example", "h2")
    assert all(hello_of(data[:size]) is None for size in range(3, len(data)))
    assert hello_of(data + b"and more") == hello_of(data)


def test_one_in_several_records() -> None:
    data = said("web.example", "h2")
    head, body = data[:3], data[5:]
    cut = b"".join(head + len(part).to_bytes(2, "big") + part for part in (body[:2], body[2:90], body[90:]))
    assert hello_of(cut) == hello_of(data)


def test_one_in_very_many_records_is_none() -> None:
    data = said("web.example", "h2")
    head, body = data[:3], data[5:]
    tiny = [head + b"\0\1" + body[at : at + 1] for at in range(len(body))]
    assert hello_of(b"".join(tiny[:RECORDS])) is None
    for many in (tiny[: RECORDS + 1], [head + b"\0\0"] * (RECORDS + 1)):
        with pytest.raises(NoHello, match="too many pieces"):
            hello_of(b"".join(many))


def made(body: bytes, kind: int = 1, record: int = 22) -> bytes:
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return bytes([record, 3, 1]) + len(message).to_bytes(2, "big") + message


def old(version: int, extensions: bytes = b"") -> bytes:
    return version.to_bytes(2, "big") + bytes(32) + b"\0" + b"\0\2\0\x2f" + b"\1\0" + extensions


def extension(kind: int, data: bytes) -> bytes:
    whole = kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
    return len(whole).to_bytes(2, "big") + whole


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (old(0x0301), Hello()),
        (old(0x0303), Hello("", (), True)),
        (old(0x0303, extension(43, b"\2\3\2")), Hello()),  # the list counts, and has TLS 1.1 alone
        (old(0x0303, extension(43, b"\4\x7a\x7a\3\4")), Hello("", (), True)),  # the first stands for nothing
        (old(0x0303, extension(16, b"\0\6\2\xfa\xfa\2h2")), Hello("", ("h2",), True)),
    ],
)
def test_forms(data: bytes, found: Hello) -> None:
    assert hello_of(made(data)) == found


@pytest.mark.parametrize(
    "data",
    [
        made(old(0x0303), kind=2),
        made(old(0x0303), record=23),
        made(old(0x0303)[:20]),
        made(old(0x0303, extension(0, b"\0\6\0\0\3w\xe9b"))),
        made(old(0x0303, extension(0, b"\0\6\0\0\3.we"))),
        made(old(0x0303, extension(0, b"\0\6\0\0\3w\0e"))),
        made(old(0x0303, extension(16, b"\0\x09\2h2"))),
        b"\x16\x03\x01\x00\x04\x01" + (MOST + 1).to_bytes(3, "big"),
        b"\x16\x03\x01\x00\x00" * (MOST // 2),
    ],
)
def test_none(data: bytes) -> None:
    with pytest.raises(NoHello):
        hello_of(data)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_whatever_comes_is_read_or_refused(noise: bytes, at: int) -> None:
    data = said("web.example", "h2", "http/1.1")
    for each in (b"\x16\x03\x01" + noise, data[:at] + noise + data[at + len(noise) :]):
        try:
            hello_of(each)
        except NoHello:
            continue
