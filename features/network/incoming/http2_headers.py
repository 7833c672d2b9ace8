"""HTTP/2's header blocks: decoded and encoded anew, as each connection has tables of its own. Pure.

Names, values, their order and the mark "never indexed" stay. hpack does the work; what it needs 12 to 25 us
for, as it is Python, is known here when the same block came before and no table has changed since: in a
connection that makes the same calls again and again, nearly always.
"""

from __future__ import annotations

from typing import TypeVar

from hpack import Decoder, Encoder, HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hpack.hpack import encode_integer

from pymirror.features.network.incoming.http2_frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Wrong

MOST = 64 << 10
"""Bytes of a block, and of the list in it, 32 added for each header as RFC 9113 counts. What goes
beyond ends the connection: its table would not be known any more."""
TABLE = 4096
"""Bytes of a table, at most; more saves no bytes that anybody would notice."""
KNOWN = 32 << 10
"""Bytes of blocks, and of the heads that they are, that are known again on one connection, each way."""
NEVER_INDEXED = 0x10


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Head:
    """One list of headers. secret: some are never to be indexed. size: as MOST counts. request: what a filter
    sees of it, once it has looked. marked: the same with our header (marks.py), kept as both go by
    identity."""

    __slots__ = ("fields", "marked", "request", "secret", "size")

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.fields = fields
        self.secret = any(isinstance(each, NeverIndexedHeaderTuple) for each in fields)
        self.request: tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None = None
        self.marked: Head | None = None
        self.size = sum(len(name) + len(value) + 32 for name, value in fields)

    def get(self, name: bytes) -> bytes:
        """The first of that name; b"": there is none."""
        return next((value for each, value in self.fields if each == name), b"")

    @property
    def interim(self) -> bool:
        """Is it a 1xx, before the answer's own?"""
        return self.get(b":status").startswith(b"1")


class _Known(dict[_Key, _Value]):
    """What was coded before, while no table changes. size: bytes, about."""

    size = 0

    def learn(self, key: _Key, value: _Value, block: bytes, head: Head) -> None:
        size = len(block) + 2 * head.size  # objects cost about as much as what is in them
        if self.size + size > KNOWN:
            self.clear()
        if size <= KNOWN:
            self[key] = value
            self.size += size

    def clear(self) -> None:
        super().clear()
        self.size = 0


class Reader:
    """What a peer says."""

    def __init__(self, table: int = TABLE) -> None:
        """table: bytes that its table may have, however it came to know."""
        self._decoder = Decoder(MOST)
        self._decoder.max_allowed_table_size = table
        self.known: _Known[bytes, Head] = _Known()

    @property
    def held(self) -> int:
        """Bytes that are not there for each connection: what is known, and a table that was made larger."""
        return self.known.size + max(0, self._decoder.header_table.maxsize - TABLE)

    def read(self, block: bytes) -> Head:
        """Wrong."""
        head = self.known.get(block)
        if head is not None:
            return head
        before = _state(self._decoder)
        try:
            head = Head(list(self._decoder.decode(block, raw=True)))
        except HPACKError as error:
            too_long = "OversizedHeaderList" in type(error).__name__
            raise Wrong(ENHANCE_YOUR_CALM if too_long else COMPRESSION_ERROR, str(error)) from error
        if _same(_state(self._decoder), before):
            self.known.learn(block, head, block, head)
        else:
            self.known.clear()
        return head


class Writer:
    """What is said to a peer."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self.known: _Known[Head, bytes] = _Known()

    def resize(self, size: int) -> None:
        """The peer allows a table of so many bytes."""
        if min(size, TABLE) != self._encoder.header_table_size:
            self._encoder.header_table_size = min(size, TABLE)
            self.known.clear()

    def write(self, head: Head) -> bytes:
        block = self.known.get(head)
        if block is not None:
            return block
        before, resized = _state(self._encoder), self._encoder.header_table.resized
        block = self._encode(head)
        if resized or not _same(_state(self._encoder), before):
            self.known.clear()
        else:
            self.known.learn(head, block, block, head)
        return block

    def _encode(self, head: Head) -> bytes:
        """Without Huffman's code, which costs more here than the bytes it saves on one hop."""
        if not head.secret:
            return self._encoder.encode(head.fields, huffman=False)
        parts = [self._encoder.encode([], huffman=False)]  # a changed size of the table comes first
        for each in head.fields:
            if isinstance(each, NeverIndexedHeaderTuple):
                parts.append(_never_indexed(*each))  # hpack would index it if the table had it already
            else:
                parts.append(self._encoder.encode([each], huffman=False))
        return b"".join(parts)


def _never_indexed(name: bytes, value: bytes) -> bytes:
    sizes = bytes(encode_integer(len(name), 7)), bytes(encode_integer(len(value), 7))
    return b"".join((bytes((NEVER_INDEXED,)), sizes[0], name, sizes[1], value))


def _state(coder: Decoder | Encoder) -> tuple[int, int, object]:
    entries = coder.header_table.dynamic_entries
    return coder.header_table.maxsize, len(entries), entries[0] if entries else None


def _same(one: tuple[int, int, object], other: tuple[int, int, object]) -> bool:
    """Has the table not changed? What is added is a new object, and the newest; the state keeps the old one
    alive, so that no other is taken for it."""
    return one[:2] == other[:2] and one[2] is other[2]


def plain(fields: list[tuple[bytes, bytes]]) -> Head:
    """A head of ours."""
    return Head([HeaderTuple(*each) for each in fields])
