"""Starting an agent and taking it away, against an API server made of coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from hand_clock import settle

from pymirror.core.call import Call, Verdict
from pymirror.core.errors import ClusterError
from pymirror.core.session import AgentOrder
from pymirror.runtimes.kubernetes.api import Json
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.refusals import Forbidden, NotFound, Unreachable
from pymirror.runtimes.kubernetes.resources import JOBS, Place
from pymirror.runtimes.kubernetes.start import Starter, remains
from pymirror.runtimes.kubernetes.undo import Undo

READY = b'{"pymirror_agent": "1", "key": "k", "port": 7}'
RUNNING = {
    "metadata": {"name": "agent-x", "uid": "u"},
    "status": {"containerStatuses": [{"name": "pymirror-agent", "state": {"running": {}}}]},
}


class Words:
    """A Report that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def step(self, text: str) -> None: ...

    info = step

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def ready(self, lines: Sequence[str]) -> None: ...

    def trace(self, call: Call, verdict: Verdict) -> None: ...


class Server:
    """Every Job starts at once. broken: what a watch of this plural raises; deleting: what that does."""

    def __init__(self, broken: dict[str, Exception], deleting: Callable[[], Any] = lambda: None) -> None:
        self.broken, self.deleting = broken, deleting
        self.refusal: Exception | None = None
        self.starts = True
        self.made: set[str] = set()
        self.asked: list[str] = []
        self.options: list[dict[str, Any]] = []

    async def create(self, place: Place, body: Json) -> Json:
        if self.refusal:
            raise self.refusal
        self.made.add(body["metadata"]["name"])
        return body

    async def follow(self, place: Place, **selectors: str) -> AsyncGenerator[tuple[str, Json], None]:
        error = self.broken.get(place.resource.plural)
        if error:
            raise error
        if place.resource.plural == "pods" and self.starts:
            yield "ADDED", RUNNING
        await asyncio.Event().wait()

    async def lines(self, place: Place, **query: str) -> AsyncGenerator[bytes, None]:
        yield READY

    async def delete(self, place: Place, **options: Any) -> None:
        self.asked.append(f"delete {place.resource.plural}")
        self.options.append(options)
        await asyncio.gather(*filter(None, [self.deleting()]))
        self.made.discard(place.name)

    async def get(self, place: Place) -> Json:
        if place.name in self.made:
            return {}
        raise NotFound("gone")


def starter(server: Server, lasting: float = 0.0) -> tuple[Starter, Undo, Words]:
    words = Words()
    order = AgentOrder("key", ("env",), 30.0, lasting=lasting)
    api: Any = server
    return Starter(api, Config(), order, words, "1"), Undo(words, within=0.2), words


async def test_an_agent_is_started_and_taken_away() -> None:
    server = Server({})
    start, undo, words = starter(server)
    started = await start.job(None, "shop", None, undo)
    assert (started.pod, started.ready.port) == ("agent-x", 7)
    assert server.made
    await undo.aclose()
    assert not server.made
    assert words.warnings == []


async def test_without_events_it_starts_without_words() -> None:
    start, undo, _ = starter(Server({"events": Unreachable("the stream ended")}))
    assert (await start.job(None, "shop", None, undo)).ready.port == 7


async def test_a_start_that_hangs_says_which_news_it_could_not_have() -> None:
    server = Server({"events": Forbidden("you may not list events in namespace shop")})
    server.starts = False
    start, undo, _ = starter(server)
    assert start.last == "nothing"
    starting = asyncio.ensure_future(start.job(None, "shop", None, undo))
    await settle()
    starting.cancel()
    assert "was made and has no pod yet (events would tell more: you may not list events" in start.last


async def test_without_the_pods_it_does_not_start() -> None:
    start, undo, _ = starter(Server({"pods": Unreachable("the stream ended")}))
    with pytest.raises(Unreachable):
        await start.job(None, "shop", None, undo)


@pytest.mark.parametrize("plural", ["pods", "events"])
async def test_a_bug_surfaces(plural: str) -> None:
    server = Server({plural: KeyError("metadata")})
    server.starts = False
    start, undo, _ = starter(server)
    with pytest.raises(KeyError):
        await start.job(None, "shop", None, undo)


def fails(error: Exception) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    "deleting",
    [
        pytest.param(fails(Unreachable("no answer from the API server")), id="unreachable"),
        pytest.param(fails(ClusterError("500")), id="refused"),
        pytest.param(lambda: asyncio.Event().wait(), id="silent"),
    ],
)
async def test_a_removal_that_fails_is_a_warning_and_no_more(deleting: Callable[[], Any]) -> None:
    server = Server({}, deleting)
    start, undo, words = starter(server, lasting=20.0)
    await start.job(None, "shop", None, undo)
    (name,) = server.made
    await undo.aclose()
    (warning,) = words.warnings
    assert remains(JOBS.at("shop", name), 50.0, Config().ttl) in warning
    assert "ends by itself within 50 s" in warning


async def test_the_pod_does_not_wait_for_the_garbage_collector() -> None:
    server = Server({})
    start, undo, _ = starter(server)
    await start.job(None, "shop", None, undo)
    await undo.aclose()
    assert server.asked == ["delete jobs", "delete pods"]
    assert server.options[1] == {"gracePeriodSeconds": 0}


async def test_a_pod_that_may_have_to_go_on_has_its_own_time() -> None:
    server = Server({})
    start, undo, _ = starter(server, lasting=30.0)
    await start.job(None, "shop", None, undo)
    await undo.aclose()
    assert server.asked == ["delete jobs", "delete pods"]
    assert server.options[1] == {}


async def test_without_the_right_to_delete_the_job_goes_by_itself() -> None:
    start, undo, words = starter(Server({}, fails(Forbidden("no"))))
    await start.job(None, "shop", None, undo)
    await undo.aclose()
    assert words.warnings == []


@pytest.mark.parametrize(
    "refusal", [Forbidden("no"), NotFound("namespaces"), Unreachable("refused", sent=False)]
)
async def test_what_was_never_made_is_not_removed(refusal: Exception) -> None:
    server = Server({}, fails(AssertionError("nothing was made")))
    server.refusal = refusal
    start, undo, words = starter(server)
    with pytest.raises(type(refusal)):
        await start.job(None, "shop", None, undo)
    await undo.aclose()
    assert server.asked == []
    assert words.warnings == []


async def test_a_bug_in_an_undo_surfaces() -> None:
    undo = Undo(Words())
    undo.stack.push_async_callback(Server({}, fails(KeyError("x"))).delete, JOBS.at("shop", "x"))
    with pytest.raises(KeyError):
        await undo.aclose()
