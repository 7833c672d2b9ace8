"""The frame layout; the only file that knows it. docs/wire.md is its prose.

A ZeroMQ message is [batch, blob, blob, …]: the batch is any number of frames end to end, the
blobs belong to its frames in order. A frame is a fixed header, a tag and a msgpack body.
Top-level `bytes` fields of 512 bytes or more travel as blobs, not copied by us on the way out; what
arrives is `bytes`. What a frame says about its own sizes is checked before anything is made of it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import msgspec

from pymirror.core.errors import PeerError, PluginError, PymirrorError
from pymirror.core.message import class_of, tag_of

REQUEST, REPLY, ERROR, EVENT, CANCEL, OPEN, DATA, CREDIT, END, RESET, PING, PONG, REFUSED = range(1, 14)

HEADER = struct.Struct("<BBIQQHI")
"""kind, number of blobs, id, sequence, acknowledged sequence, length of the tag, length of the body."""

BLOB_FROM = 512  # below, a frame of its own costs more than the copy
MAX_BATCH = MAX_BLOB = 8 << 20
"""Of one part. What needs most: a batch (what `Mux.take` may add to a largest body), an environment (the
kernel allows 6 MiB); a read has 1 MiB. Whatever may be larger is a stream."""
MAX_BODY = 4 << 20
MAX_TAG = 256
MAX_BLOBS = 4096
MAX_FRAME = 12 << 20
"""Body and blobs of one frame together."""
MAX_MESSAGE = 16 << 20
"""All parts of a ZeroMQ message together: a largest frame and what `Mux.take` may add to it."""
UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What decoding raises for noise: text that is no UTF-8 and too deep a nesting have errors of their own."""
MAX_WORDS = 8 << 10
"""Characters of an error's message and of its hint."""


class Frame(NamedTuple):
    """One frame. id: request or stream. A tuple, not attrs: made four times in each round trip."""

    kind: int
    id: int = 0
    tag: str = ""
    body: bytes = b""
    blobs: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """Bytes on the wire, roughly: what flow of bulk is measured by."""
        return len(self.body) + sum(map(len, self.blobs)) if self.blobs else len(self.body)

    @property
    def weight(self) -> int:
        """The same with header and tag: what waits is measured by this."""
        return HEADER.size + len(self.tag) + self.size


def fits(frame: Frame) -> None:
    """ValueError for a frame that the other side would not take."""
    large = frame.blobs and (frame.size > MAX_FRAME or max(map(len, frame.blobs)) > MAX_BLOB)
    if large or len(frame.body) > MAX_BODY:
        raise ValueError(f"the message {frame.tag} of {frame.size} bytes is larger than the wire allows")


def pack(frame: Frame, sequence: int, acknowledged: int) -> bytes:
    """Header, tag and body of one frame; its blobs follow as parts of the message."""
    tag = frame.tag.encode()
    header = HEADER.pack(
        frame.kind, len(frame.blobs), frame.id, sequence, acknowledged, len(tag), len(frame.body)
    )
    return header + tag + frame.body


def unpack(
    parts: Sequence[bytes], passed: Callable[[bytes, int], int] | None = None
) -> Iterator[tuple[Frame, int, int]]:
    """(frame, sequence, acknowledged) of one ZeroMQ message. PeerError for whatever does not fit.

    passed(batch, at): asked before each frame where the next one begins that is not dealt with already.
    """
    if not parts or len(parts[0]) > MAX_BATCH or len(parts) > MAX_BLOBS:
        raise PeerError(f"a message of {len(parts)} parts does not fit the wire's limits")
    if len(parts) > 1 and sum(map(len, parts)) > MAX_MESSAGE:
        raise PeerError(f"a message larger than {MAX_MESSAGE} bytes does not fit the wire's limits")
    batch, blobs, at = parts[0], iter(parts[1:]), 0
    while at < len(batch):
        if passed is not None and (at := passed(batch, at)) >= len(batch):
            break
        if len(batch) - at < HEADER.size:
            raise PeerError("a frame ends inside its header")
        kind, count, number, sequence, acknowledged, tag_size, body_size = HEADER.unpack_from(batch, at)
        at += HEADER.size
        if not REQUEST <= kind <= REFUSED or tag_size > MAX_TAG or body_size > MAX_BODY:
            raise PeerError(f"a frame of kind {kind} with {body_size} bytes does not fit the wire's limits")
        if len(batch) - at < tag_size + body_size:
            raise PeerError("a frame ends inside its body")
        try:
            tag = batch[at : at + tag_size].decode()
        except UnicodeDecodeError as error:
            raise PeerError("a frame's tag is not text") from error
        body = batch[at + tag_size : at + tag_size + body_size]
        at += tag_size + body_size
        frame = Frame(kind, number, tag, body, tuple(_blob(blobs) for _ in range(count)))
        yield frame, sequence, acknowledged
    if next(blobs, None) is not None:
        raise PeerError("a message has more blobs than its frames announce")


def _blob(blobs: Iterator[bytes]) -> bytes:
    blob = next(blobs, None)
    if blob is None or len(blob) > MAX_BLOB:
        raise PeerError("a blob is missing or larger than the wire allows")
    return blob


@functools.cache
def _bytes_fields(cls: type) -> tuple[str, ...]:
    return tuple(a.name for a in attrs.fields(cls) if a.type in (bytes, "bytes"))


@functools.cache
def _decoder(cls: type) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(cls)


def encode(message: Any) -> tuple[str, bytes, tuple[Any, ...]]:
    """(tag, body, blobs) of a message. TypeError if it is none.

    The body is one byte that counts the fields sent as blobs, one byte for the place of each, msgpack.
    """
    cls: Any = type(message)
    tag, fields = tag_of(cls), _bytes_fields(cls)
    large = [i for i, name in enumerate(fields) if len(getattr(message, name)) >= BLOB_FROM]
    if not large:
        return tag, b"\0" + msgspec.msgpack.encode(message), ()
    values = {a.name: getattr(message, a.name) for a in attrs.fields(cls)}
    blobs = tuple(values[fields[i]] for i in large)
    for i in large:
        values[fields[i]] = b""
    return tag, bytes([len(large), *large]) + msgspec.msgpack.encode(values), blobs


def decode(frame: Frame) -> Any:
    """The message in a frame; PeerError for an unknown tag or a body that is not of its class."""
    cls = class_of(frame.tag)
    if cls is None:
        raise PeerError(
            f"the message {frame.tag!r} is unknown on this side",
            "install the same version of its package on both sides",
        )
    count = frame.body[0] if frame.body else 0
    places, fields = frame.body[1 : 1 + count], _bytes_fields(cls)
    if (
        count != len(frame.blobs)
        or len(places) != count
        or any(place >= len(fields) for place in places)
        or len(set(places)) != count
    ):
        raise PeerError(f"the message {frame.tag} does not say where its {len(frame.blobs)} blobs belong")
    try:
        message = _decoder(cls).decode(memoryview(frame.body)[1 + count :])
    except UNREADABLE as error:
        raise PeerError(f"the message {frame.tag} is malformed: {error}") from error
    for place, blob in zip(places, frame.blobs, strict=True):
        object.__setattr__(message, fields[place], blob)
    return message


def encode_error(error: BaseException, feature: str) -> bytes:
    """An exception as it crosses: an OSError as its errno, ours as their words, a bug as its name."""
    if isinstance(error, OSError) and error.errno:
        return _words("os", error.errno, error.strerror or "", "")  # not str(error): it names files
    if isinstance(error, PluginError):
        return _words("plugin", 0, error.message, error.hint)
    if isinstance(error, PymirrorError):
        return _words("peer", 0, error.message, error.hint)
    return _words("peer", 0, f"{feature} failed over there: {type(error).__name__}", "")


def _words(kind: str, number: int, *texts: object) -> bytes:
    """Texts may hold undecodable file names, which msgpack refuses, and be of any length."""
    safe = [str(text)[:MAX_WORDS].encode("utf-8", "backslashreplace").decode() for text in texts]
    return msgspec.msgpack.encode([kind, number, *safe])


def decode_error(body: bytes) -> Exception:
    """The exception to raise here for an error frame's body."""
    try:
        kind, number, message, hint = msgspec.msgpack.decode(body, type=tuple[str, int, str, str])
    except UNREADABLE as error:
        return PeerError(f"an error arrived that cannot be read: {error}")
    if kind == "os" and 0 < number < 4096:  # the kernel's own bound of errno
        return OSError(number, message)
    return PluginError("", message, hint) if kind == "plugin" else PeerError(message, hint)


def refusal(error: Exception) -> list[bytes]:
    """The message that turns a second connection away."""
    return [pack(Frame(REFUSED, body=encode_error(error, "")), 0, 0)]
