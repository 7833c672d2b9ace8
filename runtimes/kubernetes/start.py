"""Starting an agent: create it, tell what happens to it, wait for its ready line.

Several streams are watched at once (the agent's pod, events, the target, the log); each only puts
what it saw on one queue, and one loop decides. The undo is registered before the request that makes
it necessary, since a request may arrive whose answer does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from attrs import frozen

from pymirror.core.errors import ClusterError, PymirrorError
from pymirror.core.session import AgentOrder, Report
from pymirror.runtimes.kubernetes import ephemeral, job, progress
from pymirror.runtimes.kubernetes.agentspec import CONTAINER, LABEL, AgentSettings, new_name
from pymirror.runtimes.kubernetes.api import Api, Json
from pymirror.runtimes.kubernetes.progress import News, Ready
from pymirror.runtimes.kubernetes.refusals import Forbidden, NotFound, Unreachable
from pymirror.runtimes.kubernetes.resources import EVENTS, JOBS, PODS, Place
from pymirror.runtimes.kubernetes.target import Chosen
from pymirror.runtimes.kubernetes.together import together
from pymirror.runtimes.kubernetes.undo import Undo

log = logging.getLogger("pymirror.kubernetes.start")

AT_ONCE = {"gracePeriodSeconds": 0}  # the agent was told goodbye before, and has nothing to go on with
LOG_PAUSE = 0.2  # seconds before a log that ended early is asked for again
SEEN = 64  # news waiting to be read; the streams stop reading beyond


@frozen
class Started:
    """A living agent: its pod and container, and what its ready line says."""

    namespace: str
    pod: str
    container: str
    ready: Ready


@frozen
class _Pod:
    """The agent's pod has a name."""

    name: str


class Starter:
    """Starts one agent. `last` is what was seen last, for the message when time is over."""

    def __init__(
        self, api: Api, settings: AgentSettings, order: AgentOrder, report: Report, ours: str
    ) -> None:
        self._api, self._settings, self._order = api, settings, order
        self._report, self._ours = report, ours
        self._queue: asyncio.Queue[News | Ready | _Pod | Exception] = asyncio.Queue(SEEN)
        self._sources: set[asyncio.Task[None]] = set()
        self._seen, self._events_missing, self._pod = "nothing", "", ""

    @property
    def last(self) -> str:
        return self._seen + self._events_missing

    async def job(self, target: Chosen | None, namespace: str, node_label: str | None, undo: Undo) -> Started:
        """An agent of its own, as a Job in `namespace`."""
        name = new_name()
        body = job.manifest(self._settings, name, self._order, target, node_label)
        creating = asyncio.ensure_future(self._api.create(JOBS.at(namespace), body))
        undo.stack.push_async_callback(self._remove, creating, namespace, name)
        lives = self._order.lease + self._order.lasting
        undo.remains = remains(JOBS.at(namespace, name), lives, self._settings.ttl)
        await asyncio.shield(creating)
        self._seen = f"job/{name} was made and has no pod yet"
        self._watch(self._pods(namespace, CONTAINER, labelSelector=f"{LABEL}={name}"))
        self._watch(self._events(namespace, name))
        if target is not None:
            self._watch(self._target(target))
        return await self._wait(namespace, CONTAINER)

    async def ephemeral(self, target: Chosen, pod: Json) -> Started:
        """A container in the target's pod. It ends with the session; its line in the status stays."""
        name = new_name()
        await self._add(name, target, pod)
        self._seen = f"container {name} was added to the pod and has not been taken up yet"
        self._watch(self._pods(target.namespace, name, fieldSelector=f"metadata.name={target.pod}"))
        self._watch(self._events(target.namespace, target.pod, f"{{{name}}}"))
        self._watch(self._target(target))
        return await self._wait(target.namespace, name)

    async def _add(self, name: str, target: Chosen, pod: Json) -> None:
        place = PODS.at(target.namespace, target.pod, "ephemeralcontainers")
        try:
            await self._api.patch(place, ephemeral.patch(self._settings, name, self._order, pod, target))
        except ClusterError as error:
            second = ephemeral.second_patch(self._settings, name, self._order, pod, target)
            if second is None or "Pod Security" not in error.message:
                raise
            log.debug("with the target's own rights instead, after: %s", error)
            await self._api.patch(place, second)

    async def _wait(self, namespace: str, container: str) -> Started:
        """Until the agent is ready. ClusterError, PeerError; a bug in a source surfaces here."""
        shown = ""
        try:
            while True:
                seen = await self._queue.get()
                if isinstance(seen, Exception):
                    raise seen
                if isinstance(seen, Ready):
                    return Started(namespace, self._pod, container, seen)
                if isinstance(seen, _Pod):
                    self._pod = self._pod or seen.name
                elif seen.kind == "failed":
                    raise ClusterError(seen.text, seen.hint)
                elif seen.kind == "running":
                    self._report.step("the agent is starting")
                    self._watch(self._ready_line(namespace, self._pod, container))
                elif not seen.quiet and seen.text != shown:
                    shown = self._seen = seen.text
                    self._report.info(seen.text)
                elif not shown:
                    self._seen = seen.text
        finally:
            sources = list(self._sources)
            for source in sources:
                source.cancel()
            await asyncio.gather(*sources, return_exceptions=True)

    def _watch(self, source: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._guarded(source))
        self._sources.add(task)

    async def _guarded(self, source: Coroutine[Any, Any, None]) -> None:
        """A source that fails, in whatever way, says so on the queue."""
        try:
            await source
        except Exception as error:
            await self._queue.put(error)

    async def _pods(self, namespace: str, container: str, **selectors: str) -> None:
        """The agent's pod: its name once, then each change of its state."""
        mine = container != CONTAINER
        running = False
        async with aclosing(self._api.follow(PODS.at(namespace), **selectors)) as changes:
            first = True
            async for change, pod in changes:
                name = pod["metadata"]["name"]
                if first:
                    await self._queue.put(_Pod(name))
                    if not mine:
                        self._watch(self._events(namespace, name))
                    first = False
                if change == "DELETED":
                    pod["metadata"].setdefault("deletionTimestamp", "now")
                news = progress.of_pod(pod, container, ephemeral=mine)
                if news.kind != "running" or not running:
                    await self._queue.put(news)
                running = running or news.kind == "running"

    async def _events(self, namespace: str, name: str, part: str = "") -> None:
        """Events about one object; a part of it, if named. They are only words: without them it goes on."""
        selectors = {"fieldSelector": f"involvedObject.name={name}"}
        try:
            async with aclosing(self._api.follow(EVENTS.at(namespace), **selectors)) as changes:
                async for change, event in changes:
                    field = (event.get("involvedObject") or {}).get("fieldPath") or ""
                    news = progress.of_event(event) if part in field and change != "DELETED" else None
                    if news:
                        await self._queue.put(news)
        except PymirrorError as error:
            log.debug("no events are shown: %s", error.message)
            self._events_missing = f" (events would tell more: {error.message})"

    async def _target(self, target: Chosen) -> None:
        """The target, in case it goes."""
        selectors = {"fieldSelector": f"metadata.name={target.pod}"}
        async with aclosing(self._api.follow(PODS.at(target.namespace), **selectors)) as changes:
            async for change, pod in changes:
                if change == "DELETED":
                    pod["metadata"].setdefault("deletionTimestamp", "now")
                news = progress.of_target(pod, target.uid)
                if news:
                    await self._queue.put(news)

    async def _ready_line(self, namespace: str, pod: str, container: str) -> None:
        """The agent's log, up to its ready line; asked for again if it ends before."""
        place = PODS.at(namespace, pod, "log")
        while True:
            lines: AsyncGenerator[bytes, None] = self._api.lines(place, container=container)
            async with aclosing(lines):
                async for line in lines:
                    ready = progress.ready_line(line, self._ours)
                    if ready:
                        await self._queue.put(ready)
                        return
                    log.debug("agent: %s", line.decode("utf-8", "replace"))
            await asyncio.sleep(LOG_PAUSE)

    async def _remove(self, creating: asyncio.Future[Json], namespace: str, name: str) -> None:
        """Delete the Job and see that it is gone."""
        await asyncio.wait({creating})
        refused = None if creating.cancelled() else creating.exception()
        if isinstance(refused, (Forbidden, NotFound)) or (
            isinstance(refused, Unreachable) and not refused.sent
        ):
            return  # it was never made
        place = JOBS.at(namespace, name)
        try:
            await self._api.delete(place, propagationPolicy="Background")
            await together(self._gone(place), self._end_pod(namespace))
        except Forbidden as error:
            log.info("%s goes %s s after the agent's end: %s", place, self._settings.ttl, error.message)

    async def _end_pod(self, namespace: str) -> None:
        """The garbage collector would do it some seconds later, and has to where this user may not."""
        if self._pod:
            try:
                how = {} if self._order.lasting else AT_ONCE
                await self._api.delete(PODS.at(namespace, self._pod), **how)
            except Forbidden as error:
                log.debug("the pod is left to the garbage collector: %s", error.message)

    async def _gone(self, place: Place) -> None:
        while True:
            try:
                await self._api.get(place)
            except NotFound:
                return
            await asyncio.sleep(0.1)  # a finalizer of someone else's holds it


def remains(place: Place, lives: float, ttl: int) -> str:
    """What may be left of an agent whose removal was not confirmed, and how it goes. Pure."""
    return (
        f"{place} may remain for a while: its agent ends by itself within {lives:g} s,"
        f" and Kubernetes removes it {ttl} s later"
    )
