"""HTTP/2's frames (RFC 9113): bytes in, frames out, and what is sent. Pure.

Nothing of a frame but its length is judged here. A frame is held whole, so its length is bounded by what
was announced.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = 9
_HEAD = struct.Struct(">BHBBI")
_WORD = struct.Struct(">I")
_SETTING = struct.Struct(">HI")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0x5, 0x6, 0x7, 0x8, 0x9
ENHANCE_YOUR_CALM = 0xB

LARGEST_NUMBER = (1 << 31) - 1
"""Of a stream, and of a window."""


class Wrong(Exception):
    """What the peer did ends its connection, with that code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


Frame = tuple[int, int, int, bytes]
"""(kind, flags, stream, payload)"""


class Cutter:
    """Cuts what comes. largest: bytes of a payload; preface: those that come before the first frame."""

    def __init__(self, largest: int, preface: bytes = b"") -> None:
        self._largest, self._preface = largest, preface
        self._rest = b""

    @property
    def held(self) -> int:
        """Bytes of a frame that is not whole."""
        return len(self._rest)

    @property
    def waits(self) -> bool:
        """Has a frame begun that cannot be worth its wait? Data is sent as there is some."""
        return len(self._rest) >= HEADER and self._rest[3] != DATA

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole. Wrong."""
        data = self._rest + data if self._rest else data
        at, end, found = len(self._preface), len(data), list[Frame]()
        if data[:at] != self._preface[:end]:
            raise Wrong(PROTOCOL_ERROR, "no HTTP/2")
        if end >= at:
            self._preface = b""
        while end - at >= HEADER:
            high, low, kind, flags, number = _HEAD.unpack_from(data, at)
            size, begins = high << 16 | low, at + HEADER
            if size > self._largest:
                raise Wrong(FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            if end - begins < size:
                break
            at = begins + size
            found.append((kind, flags, number & LARGEST_NUMBER, data[begins:at]))
        self._rest = data[at:] if not self._preface else data
        return found


def frame(kind: int, flags: int, number: int, payload: bytes | bytearray | memoryview = b"") -> bytes:
    size = len(payload)
    return b"".join((_HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, number), payload))


def settings(values: list[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in values))


def window_update(number: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, number, _WORD.pack(size))


def rst_stream(number: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, number, _WORD.pack(code))


def goaway(last: int, code: int, why: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, _WORD.pack(last) + _WORD.pack(code) + why)


def headers(number: int, ends: bool, block: bytes, largest: int) -> bytes:
    """HEADERS, and as many CONTINUATION as frames of that size need."""
    end = END_STREAM if ends else 0
    if len(block) <= largest:
        return frame(HEADERS, end | END_HEADERS, number, block)
    pieces = [block[at : at + largest] for at in range(0, len(block), largest)]
    parts = [frame(HEADERS, end, number, pieces[0])]
    parts += [frame(CONTINUATION, 0, number, each) for each in pieces[1:-1]]
    return b"".join((*parts, frame(CONTINUATION, END_HEADERS, number, pieces[-1])))


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries, without its padding. Wrong."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Wrong(PROTOCOL_ERROR, "more padding than there is")
    return payload[1 : len(payload) - payload[0]]


def word(payload: bytes) -> int:
    """The one number that a frame consists of. Wrong."""
    if len(payload) != _WORD.size:
        raise Wrong(FRAME_SIZE_ERROR, "a frame of the wrong length")
    value: int = _WORD.unpack(payload)[0]
    return value


def pairs(payload: bytes) -> list[tuple[int, int]]:
    """What a SETTINGS frame says. Wrong."""
    if len(payload) % _SETTING.size:
        raise Wrong(FRAME_SIZE_ERROR, "a SETTINGS frame of the wrong length")
    return list(_SETTING.iter_unpack(payload))


def left(payload: bytes) -> tuple[int, int]:
    """(last stream, code) of a GOAWAY frame. Wrong."""
    if len(payload) < 8:
        raise Wrong(FRAME_SIZE_ERROR, "a GOAWAY frame of the wrong length")
    return _WORD.unpack_from(payload)[0] & LARGEST_NUMBER, _WORD.unpack_from(payload, 4)[0]
