"""The API server as a few coroutines over plain JSON.

Single requests run in threads (urllib3); what streams (watch, log, port-forward) is a
WebSocket in the event loop, so that leaving it is a cancellation and never a stuck thread.
Every foreign exception is translated here; refusals.py holds the words.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from attrs import frozen

from pymirror.core.errors import ClusterError, PymirrorError
from pymirror.runtimes.kubernetes.connection import Connection, KubeSettings, connect
from pymirror.runtimes.kubernetes.refusals import (
    Busy,
    Conflict,
    Expired,
    NotFound,
    Unreachable,
    translate,
    unreachable,
)
from pymirror.runtimes.kubernetes.resources import Place
from pymirror.runtimes.kubernetes.threads import in_thread

Json = dict[str, Any]
T = TypeVar("T")

TIMEOUT = 15.0  # seconds for one request: kubectl waits for ever, a session's start must not
OPEN_TIMEOUT = 15.0  # seconds for a WebSocket to open
PATIENCE = 0.75  # of the start's own limit for what blocks, so that its words come before that limit's
PAGE = 500  # objects per list request, as kubectl
READS = ("get", "list", "watch", "review")
"""What changes nothing, and so may be asked again; `review` is a question that is made by creating it."""
METHODS = {
    "get": "GET", "list": "GET", "create": "POST", "review": "POST", "patch": "PATCH", "delete": "DELETE",
}  # fmt: skip
log = logging.getLogger("pymirror.kubernetes.api")

LONGEST_LINE = 65536  # of a log; what is longer is not ours and is cut


class Event(msgspec.Struct):
    """One line of a watch. type: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: Json


@frozen
class Retry:
    """Exponential backoff with jitter, for what is safe to repeat. Seconds."""

    least: float = 0.5
    most: float = 5.0
    times: int = 2

    def wait(self, attempt: int, jitter: float) -> float:
        """The pause after failed attempt number `attempt` (from 0); jitter in 0..1."""
        full = min(self.most, self.least * 2.0 ** min(attempt, 32))
        return full * (1 + jitter) / 2


def repeatable(verb: str, error: PymirrorError) -> bool:
    """Whether asking again can help and cannot do anything twice."""
    if isinstance(error, Unreachable):
        return error.retry and (verb in READS or not error.sent)
    return isinstance(error, (Busy, Expired)) and verb in READS


def note(known: dict[str, Json], change: str, item: Json) -> None:
    """Remember in `known` (by uid) what is there after this change."""
    if change == "DELETED":
        known.pop(item["metadata"]["uid"], None)
    else:
        known[item["metadata"]["uid"]] = item


def difference(known: dict[str, Json], items: list[Json]) -> list[tuple[str, Json]]:
    """The changes from what was known to a new list; `known` is brought up to date."""
    there = {item["metadata"]["uid"] for item in items}
    changes = [("DELETED", item) for uid, item in known.items() if uid not in there]
    changes += [("ADDED", item) for item in items]
    for change, item in changes:
        note(known, change, item)
    return changes


class Api:
    """One API server, as one user. `aclose` when done."""

    def __init__(self, connection: Connection, retry: Retry | None = None, limit: float = 45.0) -> None:
        """limit: seconds for what blocks, a credential helper among it."""
        self.connection = connection
        self.retry = retry or Retry()
        self._limit = limit

    @classmethod
    async def open(cls, settings: KubeSettings, retry: Retry | None = None) -> Api:
        """Read the kubeconfig and load its keys; nothing is asked yet. UserError, ClusterError."""
        limit = settings.startup_timeout * PATIENCE
        with TemporaryDirectory(prefix="pymirror-kube-") as folder:  # the thread may never come back to do it
            return cls(await in_thread(lambda: connect(settings, folder), limit), retry, limit)

    async def aclose(self) -> None:
        self.connection.pool.clear()

    async def get(self, place: Place) -> Json:
        return await self.ask("get", place)

    async def items(self, place: Place, **selectors: str) -> list[Json]:
        """All objects, page by page. selectors: labelSelector, fieldSelector."""
        return (await self.listing(place, **selectors))[0]

    async def listing(self, place: Place, **selectors: str) -> tuple[list[Json], str]:
        """All objects and the resource version to watch from."""
        found: list[Json] = []
        query: dict[str, str] = {"limit": str(PAGE), **selectors}
        while True:
            page = await self.ask("list", place, query=query)
            found += page.get("items") or []
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion") or "")
            query = {**query, "continue": meta["continue"]}

    async def create(self, place: Place, body: Json) -> Json:
        return await self.ask("create", place, body=body)

    async def patch(self, place: Place, body: Json) -> Json:
        """A strategic merge: lists of named things grow, the rest stays."""
        return await self.ask("patch", place, body=body, kind="application/strategic-merge-patch+json")

    async def delete(self, place: Place, **options: Any) -> None:
        """Delete; an object that is gone already is fine."""
        try:
            await self.ask("delete", place, body=options)
        except NotFound:
            return

    async def ask(
        self,
        verb: str,
        place: Place,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        kind: str = "application/json",
    ) -> Json:
        """One request, repeated where that is safe. ClusterError, UserError (NotFound)."""
        attempt = 0
        while True:
            try:
                return await self._thread(lambda: self._ask(verb, place, query, body, kind))
            except PymirrorError as error:
                if attempt >= self.retry.times or not repeatable(verb, error):
                    raise
            await asyncio.sleep(self.retry.wait(attempt, random.random()))
            attempt += 1

    async def follow(self, place: Place, **selectors: str) -> AsyncGenerator[tuple[str, Json], None]:
        """(ADDED|MODIFIED|DELETED, object) for ever: what is there first, then every change.

        A watch that ends is resumed where it was; one that is too old starts with a new list, and what
        is not in that any more is told as DELETED. ClusterError after `retry.times` failures in a row.
        """
        known: dict[str, Json] = {}
        version, quiet, failed = "", 0, 0  # rounds without an event, failures: each in a row
        while True:
            try:
                if not version:
                    items, version = await self.listing(place, **selectors)
                    for change, item in difference(known, items):
                        yield change, item
                async for change, item in self._watch(place, version, selectors):
                    version = item.get("metadata", {}).get("resourceVersion", version)
                    quiet = failed = 0
                    if change != "BOOKMARK":
                        note(known, change, item)
                        yield change, item
                failed = 0
            except PymirrorError as error:
                log.debug("watching %s, failure %d: %s", place, failed + 1, error)
                if failed >= self.retry.times or not repeatable("watch", error):
                    raise
                failed += 1
                version = "" if isinstance(error, Expired) else version
            await asyncio.sleep(self.retry.wait(quiet, random.random()))
            quiet += 1

    async def _watch(
        self, place: Place, version: str, selectors: dict[str, str]
    ) -> AsyncGenerator[tuple[str, Json], None]:
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", **selectors}
        async for frame in frames(await self.dial("watch", place, query, ())):
            try:
                event = msgspec.json.decode(frame, type=Event)
            except msgspec.DecodeError as error:
                raise ClusterError(f"watching {place}: {error}", "`kubectl get -w` must work") from error
            if event.type == "ERROR":
                code = int(event.object.get("code") or 500)
                raise translate(
                    "watch", place, code, msgspec.json.encode(event.object), self.connection.context
                )
            yield event.type, event.object

    async def lines(self, place: Place, **query: str) -> AsyncGenerator[bytes, None]:
        """The lines of a log as they come. `place` is a pod's `log`."""
        rest = b""
        socket = await self.dial("get", place, {"follow": "true", **query}, ("binary.k8s.io",))
        async for frame in frames(socket):
            *lines, rest = (rest + frame).split(b"\n")
            rest = rest[:LONGEST_LINE]
            for line in lines:
                yield line
        if rest:
            yield rest

    async def dial(self, verb: str, place: Place, query: dict[str, str], protocols: Sequence[str]) -> Any:
        """An open WebSocket (`websockets.asyncio.client.ClientConnection`) to `place`."""
        from websockets.asyncio.client import connect as open_socket
        from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

        made = self.connection
        url = f"ws{made.host[4:]}{place.path}?{urlencode(query)}"
        extra: dict[str, Any] = {"ssl": made.tls} if made.tls else {}
        if made.tls and made.server_name:
            extra["server_hostname"] = made.server_name
        try:
            return await open_socket(
                url,
                origin=made.host,  # type: ignore[arg-type]  # the watch handler wants one
                subprotocols=list(protocols) or None,  # type: ignore[arg-type]
                additional_headers=await self._thread(made.headers),
                user_agent_header=None,  # ours is among the headers
                compression=None,  # mostly ciphertext, and the API server does not offer it
                proxy=made.proxy,
                open_timeout=OPEN_TIMEOUT,
                ping_interval=20,
                ping_timeout=20,
                close_timeout=1,
                max_size=2**24,
                max_queue=8,
                write_limit=2**20,
                **extra,
            )
        except InvalidStatus as error:
            status, body = error.response.status_code, bytes(error.response.body or b"")
            raise translate(verb, place, status, body, made.context) from error
        except (InvalidHandshake, InvalidURI, OSError, asyncio.TimeoutError) as error:
            raise unreachable(made.host, made.context, error) from error

    async def _thread(self, work: Callable[[], T]) -> T:
        return await in_thread(work, self._limit)

    def _ask(
        self, verb: str, place: Place, query: dict[str, str] | None, body: Json | None, kind: str
    ) -> Json:
        """The blocking half of `ask`."""
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, NewConnectionError

        made = self.connection
        headers = {"Accept": "application/json", **made.headers()}
        if body is not None:
            headers["Content-Type"] = kind
        try:
            answer = made.pool.request(
                METHODS[verb],
                f"{made.host}{place.path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else msgspec.json.encode(body),
                headers=headers,
                timeout=Timeout(connect=TIMEOUT, read=TIMEOUT),
                retries=False,
            )
        except (HTTPError, OSError) as error:
            sent = not isinstance(error, NewConnectionError)
            raise unreachable(made.host, made.context, error, sent) from error
        if not 200 <= answer.status < 300:
            raise translate(verb, place, answer.status, answer.data, made.context)
        try:
            found: Json = msgspec.json.decode(answer.data)
        except msgspec.DecodeError as error:
            raise unreachable(made.host, made.context, error) from error
        return found


async def frames(socket: Any) -> AsyncGenerator[bytes, None]:
    """What a WebSocket brings until it ends, in whichever way; closed when left."""
    from websockets.exceptions import ConnectionClosed

    async with socket:
        try:
            async for frame in socket:
                yield frame.encode() if isinstance(frame, str) else frame
        except ConnectionClosed as error:
            log.debug("a stream of the API server ended: %s", error)


__all__ = ["Api", "Conflict", "Json", "NotFound", "Retry", "repeatable"]
