"""What blocks, in a thread of its own that nobody ever waits for: bounded, and left behind when it hangs.

An executor's threads are joined when the process ends, so that a credential helper that hangs would
hold the terminal. A helper is a child of the thread that started it: the kernel lists these by
thread, so it can be named and ended without knowing how the official client runs it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pymirror.core.errors import ClusterError
from pymirror.core.limit import timeout

T = TypeVar("T")


async def in_thread(work: Callable[[], T], limit: float) -> T:
    """work's result, or what it raised. ClusterError after `limit` seconds, naming the command it waits for.

    Left by the limit or by a cancellation, the thread's children are ended; the thread itself is left alone.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    thread: list[int] = []

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        thread.append(threading.get_native_id())
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # whatever it is, it is raised where `work` is awaited
            error = caught
        with suppress(RuntimeError):  # the loop has ended: nobody asks any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="pymirror-blocking", daemon=True).start()
    try:
        async with timeout(limit):
            return await asyncio.shield(done)
    except asyncio.TimeoutError:
        if done.done():
            raise
        raise hanging(", ".join(command_of(pid) for pid in started_by(thread)), limit) from None
    finally:
        if not done.done():
            done.cancel()
            end(started_by(thread))


def hanging(commands: str, limit: float) -> ClusterError:
    """The words for what did not answer; commands: empty when it waits for no child. Pure."""
    if commands:
        return ClusterError(
            f"the kubeconfig's credential helper did not end within {limit:g} s: {commands}",
            "run it yourself: it must log in without asking; or raise agent.startup_timeout",
        )
    return ClusterError(
        f"the API server's answer did not come within {limit:g} s", "raise agent.startup_timeout"
    )


def started_by(threads: list[int]) -> list[int]:
    """Processes that these threads of ours started and have not yet waited for."""
    return [pid for thread in threads for pid in _children(f"/proc/self/task/{thread}")]


def _children(task: str) -> list[int]:
    try:
        return [int(pid) for pid in Path(task, "children").read_text().split()]
    except OSError:
        return []  # it has ended


def command_of(pid: int) -> str:
    """A process's command line, as far as it still can be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    return b" ".join(words).decode("utf-8", "replace").strip()


def end(pids: list[int]) -> None:
    """Kill these and all that they started: a helper is often a script around the real one."""
    for pid in pids:
        below = [child for task in Path(f"/proc/{pid}/task").glob("*") for child in _children(str(task))]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        end(below)
