"""The `kubernetes` runtime: targets are pods, an agent is a Job beside one or a container inside it.

`check` reads only: it finds the target, asks whether this user may do what starting takes, and
counts the node's free pod slots. `start` creates, waits and opens the port-forward.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from attrs import frozen

from pymirror.core.errors import ClusterError, PymirrorError, UserError
from pymirror.core.limit import timeout
from pymirror.core.session import AgentOrder, Endpoint, Found, Report
from pymirror.runtimes.kubernetes import listing, loss
from pymirror.runtimes.kubernetes.agentspec import refuse_disabled
from pymirror.runtimes.kubernetes.api import Api, Json, Retry
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.forward import PROTOCOL, Forward
from pymirror.runtimes.kubernetes.probes import probes
from pymirror.runtimes.kubernetes.refusals import EPHEMERAL_WAY, Forbidden, NotFound, rule
from pymirror.runtimes.kubernetes.resolve import Node, has_account, node, one_pod, resolve, there_is
from pymirror.runtimes.kubernetes.resources import JOBS, PODS, REVIEWS, Place
from pymirror.runtimes.kubernetes.start import Started, Starter
from pymirror.runtimes.kubernetes.target import Chosen, check_namespace, mesh, parse, ports
from pymirror.runtimes.kubernetes.together import together
from pymirror.runtimes.kubernetes.undo import Undo

log = logging.getLogger("pymirror.kubernetes")

LOOKS = 5  # for the reason of a lost connection: a node tells of an end about a second late
LOOK_PAUSE = 0.4  # seconds between them; all in all below core.session.ASKING
DIALS = 5  # attempts to open a port-forward; then the far end is not coming back
DIAL_PAUSE = 0.2  # seconds before the second attempt; doubled each time


@frozen
class Detail:
    """What `check` found and `start` needs. namespace: where the agent goes."""

    namespace: str
    target: Chosen | None
    pod: Json | None
    node: Node


class Runtime:
    """Implements `core.session.Runtime`. config: runtimes/kubernetes/config.py."""

    Config = Config

    def __init__(self, config: Any, target: str | None, namespace: str | None, report: Report) -> None:
        self._config, self._target, self._namespace, self._report = config, target, namespace, report
        self._api: Api | None = None
        self._started: Started | None = None

    @property
    def rights_hint(self) -> str:
        """For a right that was asked for and is not there: the list takes it, or the node does."""
        if self._config.ephemeral:
            return "agent.privileged: true gives an agent every right"
        return (
            "see that agent.disabled_capabilities does not take it; "
            "agent.privileged: true gives every right, agent.ephemeral: true needs fewer"
        )

    @staticmethod
    def read_target(text: str) -> None:
        """UserError for a target that cannot be read; nothing is asked of the cluster."""
        parse(text)

    @staticmethod
    async def list_targets(config: Any, namespace: str | None, kinds: Sequence[str]) -> list[Json]:
        """What could be a target (listing.py). UserError, ClusterError."""
        return await listing.list_targets(config, namespace, kinds)

    async def check(self, features: Sequence[str]) -> Found:
        """Find the target; see that the agent may be started. UserError, ClusterError."""
        wanted = parse(self._target)
        if wanted is None and self._config.ephemeral:
            raise UserError(
                "agent.ephemeral needs a target: an ephemeral container lives in a pod",
                "name one with -t, or leave agent.ephemeral out",
            )
        self._report.step("asking the cluster for the target")
        api = await self._connected()
        where = self._namespace or api.connection.namespace
        check_namespace(where)
        if wanted is None:
            await self._may_in(api, where, True)
            return Found("no target", has_target=False, detail=Detail(where, None, None, Node()))
        own = where if self._config.ephemeral else self._config.namespace or where
        check_namespace(own)
        (chosen, pod), _ = await together(resolve(api, wanted, where), self._may_in(api, own, own != where))
        found = Node() if self._config.ephemeral else await self._room(api, chosen)
        notes = [*chosen.notes]
        if mesh(pod) == "istio-ambient" and not self._config.privileged:
            notes.append("the pod is in an Istio ambient mesh: agent.privileged may be needed")
        title = f"pod/{chosen.pod}/container/{chosen.container} in namespace {where}"
        detail, declared = Detail(own, chosen, pod, found), ports(pod, chosen.container)
        return Found(title, notes=tuple(notes), ports=declared, detail=detail, probes=probes(pod))

    async def start(self, found: Found, order: AgentOrder, undo: AsyncExitStack) -> Endpoint:
        """Start the agent `check` prepared for. ClusterError says what was seen last."""
        detail: Detail = found.detail
        if detail.target is not None and not self._config.ephemeral:
            refuse_disabled(self._config, order.rights)
        api = await self._connected()
        own = Undo(self._report)
        undo.push_async_callback(own.aclose)
        own.stack.push_async_callback(api.aclose)
        starter = Starter(api, self._config, order, self._report, version("pymirror"))
        try:
            async with timeout(order.within):
                started = await self._begin(starter, detail, own)
        except asyncio.TimeoutError:
            raise ClusterError(
                f"the agent was not ready after {order.within:.0f} s; last seen: {starter.last}",
                "raise agent.startup_timeout if the cluster is only slow",
            ) from None
        self._started = started
        return await self._forward(api, started, own)

    async def lost(self, found: Found) -> str:
        """What became of the target or the agent, now that the connection is lost; "" if nothing is seen.

        The target's end is looked for longer: the agent ends with it, and is often the first to be told.
        """
        detail: Detail = found.detail
        if self._started is None:
            return ""
        api = await self._connected()
        words = ""
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(LOOK_PAUSE)
            if detail.target is not None:
                pod = await one_pod(api, detail.target.namespace, detail.target.pod)
                if of_target := loss.of_target(pod, detail.target):
                    return of_target
            pod = await one_pod(api, self._started.namespace, self._started.pod)
            words = loss.of_agent(pod, self._started.pod, self._started.container)
        return words

    async def _begin(self, starter: Starter, detail: Detail, undo: Undo) -> Started:
        if self._config.ephemeral and detail.target is not None and detail.pod is not None:
            return await starter.ephemeral(detail.target, detail.pod)
        return await starter.job(detail.target, detail.namespace, detail.node.label, undo)

    async def _forward(self, api: Api, started: Started, undo: Undo) -> Endpoint:
        place = PODS.at(started.namespace, started.pod, "portforward")
        port = started.ready.port

        async def dial() -> Any:
            return await redial(lambda: api.dial("create", place, {"ports": str(port)}, (PROTOCOL,)))

        forward = Forward(dial, port, lambda error: self._report.warn(error.message))
        undo.stack.push_async_callback(forward.aclose)
        await forward.start()
        return Endpoint(forward.address, started.ready.key)

    async def _connected(self) -> Api:
        if self._api is None:
            self._api = await Api.open(self._config, retry_of(self._config))
        return self._api

    async def _room(self, api: Api, chosen: Chosen) -> Node:
        """The target's node. ClusterError if it has no slot for one more pod."""
        found = await node(api, chosen.node)
        if self._config.check_out_of_pods and found.free is not None and found.free <= 0:
            raise ClusterError(
                f"the node {chosen.node} has no free pod slot for the agent (all {found.slots} are taken)",
                EPHEMERAL_WAY,
            )
        return found

    async def _may_in(self, api: Api, namespace: str, unseen: bool) -> None:
        """What the agent needs in its namespace; unseen: nothing else shows that it exists."""
        if unseen:
            await there_is(api, namespace)
        account = None if self._config.ephemeral else self._config.service_account
        await together(
            self._may(api, needed(namespace, self._config.ephemeral)),
            *([has_account(api, namespace, account)] if account else ()),
        )

    async def _may(self, api: Api, wanted: Sequence[tuple[str, Place]]) -> None:
        """Ask the API server whether this user may do all of `wanted`; an answer that fails is no answer."""
        answers = await together(*(self._allowed(api, verb, place) for verb, place in wanted))
        missing = [pair for pair, allowed in zip(wanted, answers, strict=True) if not allowed]
        if missing:
            where = missing[0][1].namespace
            words = ", ".join(f"{verb} {place.role_resource}" for verb, place in missing)
            rules = ", ".join(rule(verb, place) for verb, place in missing)
            raise Forbidden(
                f"you may not start an agent in namespace {where}: missing {words}",
                f"ask for a Role in namespace {where} with the rules {rules}",
            )

    async def _allowed(self, api: Api, verb: str, place: Place) -> bool:
        try:
            answer = await api.ask("review", REVIEWS.at(), body=review(verb, place))
        except (Forbidden, NotFound) as error:
            log.debug("no self review: %s", error.message)
            return True
        return bool(answer.get("status", {}).get("allowed"))


def needed(namespace: str, ephemeral: bool) -> list[tuple[str, Place]]:
    """(verb, place) for all that starting takes. Pure.

    Not deleting the Job: where that is forbidden it removes itself once the agent has ended.
    """
    made = (
        [("patch", PODS.at(namespace, subresource="ephemeralcontainers"))]
        if ephemeral
        else [("create", JOBS.at(namespace))]
    )
    return [
        *made,
        ("list", PODS.at(namespace)),
        ("watch", PODS.at(namespace)),
        ("get", PODS.at(namespace, subresource="log")),
        ("get", PODS.at(namespace, subresource="portforward")),
    ]


def review(verb: str, place: Place) -> Json:
    """The body that asks "may I?". Pure."""
    asked: Json = {"verb": verb, "group": place.resource.group, "resource": place.resource.plural}
    asked["namespace"] = place.namespace
    if place.subresource:
        asked["subresource"] = place.subresource
    return {
        "apiVersion": REVIEWS.api_version,
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }


def retry_of(config: Any) -> Retry:
    """`startup_retry` (milliseconds) as seconds."""
    asked = getattr(config, "startup_retry", None)
    if asked is None:
        return Retry()
    return Retry(asked.min_ms / 1000, asked.max_ms / 1000, asked.max_retries)


async def redial(dial: Any) -> Any:
    """Open, again and again for a while: a node's streaming endpoint may be behind its pod."""
    for attempt in range(DIALS):
        try:
            return await dial()
        except (Forbidden, NotFound):
            raise
        except PymirrorError as error:
            if attempt == DIALS - 1:
                raise
            log.debug("port-forward, attempt %d: %s", attempt + 1, error.message)
        await asyncio.sleep(DIAL_PAUSE * 2**attempt)
    raise AssertionError("not reached")
