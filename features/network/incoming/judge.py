"""Asks what the user's jq and JSONPath say, in a process of its own that can be ended.

Why a process: jq's binding holds the interpreter's lock while a program runs, and a program may run for
ever; a JSONPath of nested filters takes hours for a body of 64 KiB. No thread, signal or timer of ours
gets a turn. An answer takes 0.1 ms, and at worst `CPU` is used up; after that the worker is another one. A
stolen port's requests `answer` each other's way: 0.2 s of all clients for one of them would be too much. A
copy's may `ask`, as nobody but copies waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from pymirror.core.limit import timeout
from pymirror.core.patterns import TooSlow
from pymirror.features.network.incoming.http_rules import NAME
from pymirror.features.network.incoming.judging import SIZE, Ask, packed, receive, send
from pymirror.features.network.incoming.questions import JQ, Question

CPU = {True: 0.02, False: 0.2}
"""Seconds of computing for one request's headers by jq, and for a body: a path through 64 KiB takes 60 ms."""
WALL = 1.0
"""Seconds for an answer where the machine gives the worker no time, or somebody has stopped it."""
BEGINS = 10.0
"""Seconds for the worker to start."""


class Judge:
    """`await ready()` before the first question; `close` at the end."""

    def __init__(self, questions: Sequence[Question], wall: float = WALL) -> None:
        self._questions, self._wall = list(questions), wall
        self._worker: subprocess.Popen[bytes] | None = None
        self._free = asyncio.Lock()
        self._start()

    async def ready(self) -> None:
        """The worker runs. TimeoutError."""
        if self._started:
            return
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._sock.fileno(), came.set)
        try:
            async with timeout(BEGINS):
                await came.wait()
        finally:
            loop.remove_reader(self._sock.fileno())

    def ask(self, number: int, texts: list[bytes]) -> list[bool]:
        """See `questions.Judging`."""
        question = self._questions[number]
        if not self._is_ready():
            raise self._slow(question, "its worker is not ready")
        self._sock.settimeout(self._wall)
        try:
            send(self._sock, Ask(number, texts, CPU[question.kind == JQ]))
            found: list[bool] = receive(self._sock, list[bool])
        except (OSError, EOFError):
            self._renew()
            raise self._too_much(question) from None
        return found

    async def answer(self, number: int, texts: list[bytes]) -> list[bool]:
        """See `questions.Judging`. One is answered after the other."""
        question = self._questions[number]
        try:
            async with timeout(self._wall):
                await self._free.acquire()
        except asyncio.TimeoutError:
            raise self._slow(question, "those before it take too long") from None
        try:
            async with timeout(self._wall):
                if not self._is_ready():
                    await self.ready()
                    if not self._is_ready():
                        raise EOFError
                return await self._answered(Ask(number, texts, CPU[question.kind == JQ]))
        except (OSError, EOFError, asyncio.TimeoutError):
            self._renew()
            raise self._too_much(question) from None
        except asyncio.CancelledError:
            self._renew()  # an answer may come to what was asked
            raise
        finally:
            self._free.release()

    async def _answered(self, ask: Ask) -> list[bool]:
        loop, sock = asyncio.get_running_loop(), self._sock
        sock.setblocking(False)

        async def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                more = await loop.sock_recv(sock, size - len(data))
                if not more:
                    raise EOFError
                data += more
            return data

        await loop.sock_sendall(sock, packed(ask))
        (size,) = SIZE.unpack(await exactly(SIZE.size))
        return msgspec.msgpack.decode(await exactly(size), type=list[bool])

    def close(self) -> None:
        """End the worker."""
        self._sock.close()
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            self._worker = None

    def _start(self) -> None:
        """OSError."""
        self._sock, theirs = socket.socketpair()
        self._started = False
        self._sock.settimeout(self._wall)
        with theirs:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "pymirror.features.network.incoming.judging", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        send(self._sock, self._questions)

    def _renew(self) -> None:
        """Another worker; where there cannot be one now, the next question tries again."""
        self.close()
        with contextlib.suppress(OSError):
            self._start()

    def _is_ready(self) -> bool:
        if self._worker is None:
            self._renew()
        elif not self._started and self._has_said():
            try:
                self._started = receive(self._sock, bool)
            except (OSError, EOFError):
                self._renew()
        return self._started

    def _has_said(self) -> bool:
        waits = select.poll()  # select() knows no descriptor from 1024 on
        waits.register(self._sock, select.POLLIN)
        return bool(waits.poll(0))

    def _too_much(self, question: Question) -> TooSlow:
        return self._slow(question, f"it takes more than {CPU[question.kind == JQ]:g} s, or too much memory")

    def _slow(self, question: Question, why: str) -> TooSlow:
        error = TooSlow(NAME, question.query)
        error.strerror = f"{NAME} {question.query}: {why}"
        return error
