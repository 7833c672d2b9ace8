"""Asks what the user's jq and JSONPath say, in a process of its own that can be ended.

Why a process: jq's binding holds the interpreter's lock while a program runs, and a program may run for
ever; a JSONPath of nested filters takes hours for a body of 64 KiB. No thread, signal or timer of ours
gets a turn. Who asks waits: an answer takes 0.1 ms, and at worst `CPU` is used up, as by a regular
expression; an answer that is awaited would let a request be overtaken by the next. After that the
worker is another one, and until it is ready requests do not match.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Sequence

from pymirror.core.limit import timeout
from pymirror.core.patterns import TooSlow
from pymirror.features.network.incoming.http_rules import NAME
from pymirror.features.network.incoming.judging import Ask, receive, send
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
        limit = CPU[question.kind == JQ]
        try:
            send(self._sock, Ask(number, texts, limit))
            found: list[bool] = receive(self._sock, list[bool])
        except (OSError, EOFError):
            self._renew()
            raise self._slow(question, f"it takes more than {limit:g} s, or too much memory") from None
        return found

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
        elif not self._started and select.select([self._sock], [], [], 0)[0]:
            try:
                self._started = receive(self._sock, bool)
            except (OSError, EOFError):
                self._renew()
        return self._started

    def _slow(self, question: Question, why: str) -> TooSlow:
        error = TooSlow(NAME, question.query)
        error.strerror = f"{NAME} {question.query}: {why}"
        return error
