"""A cluster where every request fails: one error in words, and nothing that nobody heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pymirror.core.errors import ClusterError
from pymirror.runtimes.kubernetes import listing
from pymirror.runtimes.kubernetes.api import Api
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.refusals import Forbidden, Unreachable
from pymirror.runtimes.kubernetes.runtime import Runtime
from pymirror.runtimes.kubernetes.together import together


class Connection:
    namespace = "shop"
    context = "ctx"


class Failing:
    """Each request waits a turn more than the one before, then fails; `hangs`: but the first never ends."""

    connection = Connection()

    def __init__(self, error: Callable[[], Exception], hangs: bool = False) -> None:
        self.error, self.hangs, self.asked = error, hangs, 0

    async def fail(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        for _turn in range(self.asked):
            await asyncio.sleep(0)
        if self.asked == 1 and self.hangs:
            await asyncio.Event().wait()
        raise self.error()

    get = items = create = fail

    async def aclose(self) -> None: ...


class Quiet:
    def step(self, text: str) -> None: ...


@pytest.fixture
async def unheard() -> AsyncIterator[list[str]]:
    """What the loop was told because nobody else heard it, and which tasks are left."""
    loop = asyncio.get_running_loop()
    found: list[str] = []
    loop.set_exception_handler(lambda _, context: found.append(str(context)))
    yield found
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left and not found


def broken(server: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(*_: Any) -> Failing:
        return server

    monkeypatch.setattr(Api, "open", opened)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: ClusterError("the API server does not know you"), id="unknown"),
        pytest.param(lambda: Unreachable("the certificate is not trusted"), id="untrusted"),
    ],
)
async def test_a_check_whose_every_request_fails_is_one_error(
    error: Callable[[], Exception], unheard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(Failing(error), monkeypatch)
    report: Any = Quiet()
    with pytest.raises(ClusterError) as caught:
        await Runtime(Config(), "pod/api", None, report).check(["env"])
    assert str(caught.value) == str(error())


async def test_targets_that_may_not_be_listed_are_one_error(
    unheard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(Failing(lambda: Forbidden("you may not list pods")), monkeypatch)
    with pytest.raises(Forbidden, match="you may not list pods"):
        await listing.list_targets(Config(), None, ["pod", "deployment", "job"])


async def test_an_error_does_not_wait_for_what_hangs(unheard: list[str]) -> None:
    server = Failing(lambda: ClusterError("no"), hangs=True)
    with pytest.raises(ClusterError, match="no"):
        await together(server.fail(), server.fail())


async def test_a_cancellation_reaches_all(unheard: list[str]) -> None:
    server = Failing(lambda: ClusterError("no"), hangs=True)
    waiting = asyncio.ensure_future(together(server.fail(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_answers_keep_their_order() -> None:
    async def later(turns: int) -> int:
        for _turn in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(later(3), later(0), later(1)) == [3, 0, 1]
