"""The C part with types: the only importer of `_pump`.

Nothing is decided here: numbers of api.h on one side, values of core.call on the other.
Functions of C return errno; it becomes OSError here.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen

from pymirror.core.call import (
    MOST_TRIES,
    Address,
    Bind,
    Call,
    Errno,
    OtherAddress,
    OtherPath,
    Text,
    Untouched,
    Verdict,
)
from pymirror.layer.engines.seccomp import addresses
from pymirror.layer.engines.seccomp._pump import ffi, lib

CALL_BITS: dict[str, int] = {
    "open": lib.PM_CALL_OPEN,
    "stat": lib.PM_CALL_STAT,
    "access": lib.PM_CALL_ACCESS,
    "readlink": lib.PM_CALL_READLINK,
    "statfs": lib.PM_CALL_STATFS,
    "hostname": lib.PM_CALL_HOSTNAME,
    "change": lib.PM_CALL_CHANGE,
    "other": lib.PM_CALL_OTHER,
    "watch": lib.PM_CALL_WATCH,
    "connect": lib.PM_CALL_CONNECT,
    "sendto": lib.PM_CALL_SENDTO,
    "bind": lib.PM_CALL_BIND,
    "listen": lib.PM_CALL_LISTEN,
}
_KINDS: dict[tuple[str, bool], int] = {
    ("open", False): lib.PM_OPEN_READ,
    ("open", True): lib.PM_OPEN_WRITE,
    ("stat", False): lib.PM_STAT,
    ("access", False): lib.PM_ACCESS_READ,
    ("access", True): lib.PM_ACCESS_WRITE,
    ("readlink", False): lib.PM_READLINK,
    ("statfs", False): lib.PM_STATFS,
    ("hostname", False): lib.PM_HOSTNAME,
    ("change", True): lib.PM_CHANGE,
    ("other", False): lib.PM_OTHER,
    ("watch", False): lib.PM_WATCH,
}
_NAMES = {kind: call for call, kind in _KINDS.items()}
_SOCKET_NAMES: dict[int, str] = {
    lib.PM_CONNECT: "connect",
    lib.PM_SENDTO: "sendto",
    lib.PM_BIND: "bind",
    lib.PM_LISTEN: "listen",
}
_TRANSPORTS: dict[int, str] = {
    lib.PM_TCP: "tcp",
    lib.PM_UDP: "udp",
    lib.PM_UNIX: "unix",
    lib.PM_UNIXPACKET: "unixpacket",
}
_FOLLOW_MATTERS = ("open", "stat", "access")


@frozen
class Question:
    """A call the pump does not know; `cookie` goes back with the reply. domain: of its socket."""

    cookie: int
    call: Call
    domain: int = 0


@frozen
class Answer:
    """A verdict as the pump keeps it."""

    verdict: int
    code: int = 0
    root: int = -1
    value: bytes = b""


def answer_of(verdict: Verdict | None, domain: int = 0) -> Answer:
    """None: ask. TypeError for a verdict this engine does not know, ValueError for addresses that do
    not fit a socket of `domain`."""
    if verdict is None:
        return Answer(lib.PM_ASK)
    if isinstance(verdict, Untouched):
        return Answer(lib.PM_CONTINUE)
    if isinstance(verdict, Errno):
        return Answer(lib.PM_ERRNO, code=verdict.code)
    if isinstance(verdict, OtherPath):
        return Answer(lib.PM_TREE_PATH, root=verdict.root, value=verdict.path or b".")
    if isinstance(verdict, Text):
        return Answer(lib.PM_TEXT, value=verdict.value)
    if isinstance(verdict, OtherAddress):
        name = addresses.write(verdict.name, domain) if verdict.name is not None else b""
        return _parts(lib.PM_ADDRESS, addresses.write(verdict.relay, domain), verdict.introduction, name)
    if isinstance(verdict, Bind):
        if not 0 < len(verdict.tries) <= MOST_TRIES:
            raise ValueError(f"{len(verdict.tries)} addresses to try")
        return _parts(lib.PM_TRIES, *(addresses.write(each, domain) for each in verdict.tries))
    raise TypeError(f"the seccomp engine cannot carry out {verdict!r}")


def _parts(verdict: int, *parts: bytes) -> Answer:
    return Answer(verdict, value=b"".join(bytes([len(part)]) + part for part in parts))


def _device(number: int) -> str:
    """Its name; none for 0."""
    try:
        return socket.if_indextoname(number) if number else ""
    except OSError:  # gone meanwhile
        return str(number)


def _socket_call(question: Any, raw: bytes) -> Call:
    where = addresses.read(raw)
    bound = addresses.read(ffi.buffer(question.bound)[: question.bound_size]) if question.bound_size else None
    return Call(
        _SOCKET_NAMES[question.kind],
        path=where if isinstance(where, bytes) else b"",
        pid=question.pid,
        address=None if isinstance(where, bytes) else where,
        transport=_TRANSPORTS[question.transport],
        blocking=bool(question.blocking),
        socket=question.socket,
        device=_device(question.device),
        again=bool(question.again),
        bound=None if isinstance(bound, bytes) else bound,
        shares_port=bool(question.shares_port),
    )


def kind_of(call: Call) -> int:
    """KeyError for a call this engine does not catch."""
    exact = (call.name, call.write)
    return _KINDS[exact if exact in _KINDS else (call.name, not call.write)]


def _struct(answer: Answer) -> tuple[object, object]:
    value = ffi.new("char[]", answer.value)
    made = ffi.new("pm_answer *", [answer.verdict, answer.code, answer.root, len(answer.value), value])
    return made, value  # the second keeps the bytes alive


def _check(code: int, what: str) -> None:
    if code:
        raise OSError(code, f"{what}: {os.strerror(code)}")


class Pump:
    """The threads that answer calls, and the table they answer from."""

    def __init__(self, skip: Iterable[str] = ()) -> None:
        names = [ffi.new("char[]", os.fsencode(name)) for name in sorted(skip)]
        self._pump = lib.pm_pump_new(ffi.new("char *[]", names) if names else ffi.NULL, len(names))
        if self._pump == ffi.NULL:
            raise OSError("the pump: no memory or no descriptor left")

    @property
    def event(self) -> int:
        """Readable when there are questions."""
        return int(lib.pm_pump_event(self._pump))

    def start(self, listener: int) -> None:
        """Answer the notifications of `listener`, which is the pump's from now on."""
        _check(lib.pm_pump_start(self._pump, listener), "the pump's threads")

    def questions(self) -> Iterator[Question]:
        """Those waiting now."""
        question, room = ffi.new("pm_question *"), ffi.new("char[]", lib.PM_LONGEST)
        while lib.pm_pump_next(self._pump, question, room):
            path = ffi.buffer(room, question.size)[:]
            if question.kind in _SOCKET_NAMES:
                yield Question(question.cookie, _socket_call(question, path), question.domain)
                continue
            name, write = _NAMES[question.kind]
            system = ffi.string(question.system).decode()
            follow = bool(question.follow)
            yield Question(question.cookie, Call(name, path, write, follow, question.pid, system=system))

    def reply(self, cookie: int, answer: Answer) -> None:
        """An answer that comes too late (the pump has stopped) goes nowhere."""
        made, _value = _struct(answer)
        lib.pm_pump_reply(self._pump, cookie, made)

    def learn(self, call: Call, answer: Answer, *, any_follow: bool, tree: bytes | None) -> None:
        """Keep an answer: for this call alone, or with `tree` for all at and below that path."""
        made, _value = _struct(answer)
        path = call.path if tree is None else tree
        follow = -1 if any_follow or call.name not in _FOLLOW_MATTERS else int(call.follow)
        _check(
            lib.pm_learn(self._pump, kind_of(call), follow, tree is not None, path, len(path), made),
            f"keeping the verdict on {call.name} {path!r}",
        )

    def forget(self, call: Call) -> None:
        """Ask about that socket's datagrams to that address again."""
        assert call.address is not None
        for domain in (socket.AF_INET, socket.AF_INET6):
            with suppress(ValueError):  # it may be a socket of either
                place = addresses.write(call.address, domain)
                _check(lib.pm_forget(self._pump, call.socket, place, len(place)), "forgetting a verdict")

    def known(self, call: Call) -> str:
        """What the table says: ask, continue, errno, tree path or text."""
        words = ("ask", "continue", "errno", "tree path", "text")
        return words[lib.pm_known(self._pump, kind_of(call), int(call.follow), call.path)]

    def named(self, socket: int, put: bool = False) -> bool:
        """Is the name of that socket (its SO_COOKIE) kept? put: keep one from now on."""
        return bool(lib.pm_named(self._pump, socket, put))

    def put_guest(self, door: Address, client: Address, address: Address) -> None:
        """See core.feature.Guests."""
        names = (addresses.write(each, socket.AF_INET6) for each in (door, client, address))
        _check(lib.pm_guest_put(self._pump, *names), "a guest")

    def drop_guest(self, door: Address) -> None:
        lib.pm_guest_drop(self._pump, addresses.write(door, socket.AF_INET6))

    def guest(self, peer: Address, domain: int, client: bool) -> Address | bytes | None:
        """What a socket of `domain` is told of that peer: its client, or the address that it spoke to."""
        raw, into = addresses.write(peer, domain), ffi.new("char[]", 28)
        size = lib.pm_guest(self._pump, raw, len(raw), domain, client, into)
        return addresses.read(ffi.buffer(into)[:size]) if size else None

    def counters(self) -> dict[str, int]:
        """received, local (left alone without Python), asked (of Python), carried (out by us)."""
        names = ("received", "local", "asked", "carried")
        return {name: int(lib.pm_pump_count(self._pump, number)) for number, name in enumerate(names)}

    def close(self, limit: float) -> bool:
        """Blocks up to `limit` seconds. False: a thread is still inside a file; nothing is freed."""
        if lib.pm_pump_stop(self._pump, int(limit * 1000)):
            return False
        lib.pm_pump_free(self._pump)
        return True


def normalise(path: bytes) -> tuple[bytes, bool]:
    """The form of an absolute path that decisions are made on, and whether it asked for a directory."""
    into, slash = ffi.new("char[]", len(path) + 2), ffi.new("int *")
    lib.pm_normalise(path, into, slash)
    return ffi.string(into), bool(slash[0])


@frozen
class Spawned:
    pid: int
    listener: int


class SpawnError(OSError):
    """`stage` says at what: `exec` is the program's own fault, the others are this machine's."""

    stage: str = ""


def spawn(
    path: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    calls: Iterable[str],
    ignored: Iterable[int],
) -> Spawned:
    """Start `path` under the filter; SpawnError. It runs until its first caught call."""
    kept = [ffi.new("char[]", os.fsencode(word)) for word in argv]
    shell = [ffi.new("char[]", os.fsencode(word)) for word in ("sh", path)] + kept[1:]
    variables = [ffi.new("char[]", os.fsencode(f"{name}={value}")) for name, value in environ.items()]
    file = ffi.new("char[]", os.fsencode(path))
    lists = [ffi.new("char *[]", [*words, ffi.NULL]) for words in (kept, shell, variables)]
    bits = 0
    for call in calls:
        bits |= CALL_BITS[call]
    order = ffi.new("pm_order *", [file, *lists, bits, _mask(ignored)])
    failed = lib.pm_spawn(order)
    if failed:
        error = SpawnError(failed, os.strerror(failed), path)
        error.stage = ffi.string(order.stage).decode()
        raise error
    return Spawned(order.pid, order.listener)


def probe() -> tuple[str, int]:
    """("", 0) when this machine has everything, else the stage that failed and its errno."""
    stage = ffi.new("char **")
    failed = lib.pm_probe(stage)
    return (ffi.string(stage[0]).decode(), failed) if failed else ("", 0)


@frozen
class Signal:
    """`from_user`: sent by kill() and the like, by process `sender`; else by the terminal or the kernel."""

    number: int
    from_user: bool
    sender: int


class Signals:
    """Signals with their origin. One user at a time in a process."""

    def __init__(self) -> None:
        self._read = -1
        self._write = -1

    def take(self, numbers: Iterable[int]) -> int:
        """From now on these arrive by `come`; the descriptor is readable when there are some."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        _check(lib.pm_signals_take(self._write, _mask(numbers)), "taking the signals over")
        return self._read

    def come(self) -> Iterator[Signal]:
        size = ffi.sizeof("pm_signal")
        try:
            data = os.read(self._read, 64 * size)
        except BlockingIOError:
            return
        for record in ffi.from_buffer("pm_signal[]", data):
            yield Signal(record.number, bool(record.from_user), record.sender)

    def wait(self, pid: int) -> tuple[int, int]:
        """As os.waitpid with WNOHANG and WUNTRACED; see api.h for when the pump holds the child."""
        status = ffi.new("int *")
        found = lib.pm_child_wait(pid, status)
        _check(-min(found, 0), "waiting for the program")
        return found, status[0]

    def give_back(self) -> None:
        """As before `take`; may be called twice."""
        if self._read < 0:
            return
        lib.pm_signals_give_back()
        os.close(self._read)
        os.close(self._write)
        self._read = self._write = -1


def _mask(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << (signal.Signals(number) - 1)
    return mask
