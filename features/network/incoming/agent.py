"""The agent's half of `network.incoming`: takes or copies ports of the target, whole or by the filter."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from attrs import evolve

from pymirror.core.errors import PeerError
from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.core.limit import timeout
from pymirror.core.probe import Probe
from pymirror.features.network import sockdiag
from pymirror.features.network.incoming import config as keys
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.copy_http import Copied, Everything, Http, Ways
from pymirror.features.network.incoming.credentials import Credentials
from pymirror.features.network.incoming.front import Filtered, Front
from pymirror.features.network.incoming.health import Probed, on_port
from pymirror.features.network.incoming.http_filter import Matcher
from pymirror.features.network.incoming.judge import Judge
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.mirror import Mirror
from pymirror.features.network.incoming.questions import Question
from pymirror.features.network.incoming.relay.native import Relay
from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.sharing import Claim
from pymirror.features.network.incoming.steal import Steal

HEARD = 3.0
"""Seconds for the layer to say that it is there; if it does not, its ports are the application's again."""


class Agent(AgentFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config
    _steal: Steal | None = None
    _mirror: Mirror | None = None
    _judge: Judge | None = None
    _relay: Relay | None = None

    async def start(self, target: Target) -> None:
        self.target = target
        self._credentials = Credentials(target.root, self.config.tls, self.log)
        self._filtered: Filtered | None = None
        self._probes: list[Probe] = []
        self._exact: set[int] = set()
        self._strayed: set[int] = set()

    @handles(m.Begin)
    async def begin(self, asked: m.Begin) -> m.Begun:
        """OSError naming what is missing."""
        self._probes = asked.probes
        if self.config.http_filter.given:
            await self._filter()
        if self.config.mode == "steal":
            whose = re.sub(r"[^\w.@-]", "_", asked.whose, flags=re.ASCII)[:64] or secrets.token_hex(4)
            self._steal = Steal(self.target, self.peer, whose, self.log, self._is_heard, self._news)
            await self._steal.start()
        else:
            self._mirror = Mirror(self.peer, self.target, self.log, self._copied)
            await self._mirror.start()
        return m.Begun()

    async def drain(self) -> None:
        if self._steal is not None:
            try:
                async with timeout(self.config.drain):
                    await self._steal.drain()
            except asyncio.TimeoutError:
                self.log.info("connections of the application end after %g s", self.config.drain)

    async def aclose(self) -> None:
        if self._steal is not None:
            await self._steal.aclose()
        if self._mirror is not None:
            await self._mirror.aclose()
        if self._relay is not None:
            self._relay.close()
        if self._judge is not None:
            self._judge.close()
        self._credentials.close()

    @handles(m.Subscribe)
    async def subscribe(self, asked: m.Subscribe) -> m.Subscribed:
        shared = ""
        try:
            if self._steal is not None:
                filtered = self._requests_of(asked.port)
                decides = None if filtered is None else partial(self._front, filtered)
                if self._is_filtered(asked.port):
                    await self._credentials.ready(asked.port)
                claim = Claim.of(self.config.http_filter, asked.port)
                shared = await self._steal.take(asked.port, decides, self.config.flush_connections, claim)
            elif self._mirror is not None:
                self._mirror.take(asked.port)
                (self._exact.add if asked.exact else self._exact.discard)(asked.port)
                return m.Subscribed(note=await self._unheard(asked.port))
        except OSError as error:
            code = error.errno or errno.EIO
            return m.Subscribed(code, error.strerror or os.strerror(code))
        return m.Subscribed(note=shared)

    async def _unheard(self, port: int) -> str:
        """Words where nothing listens there."""
        for protocol in (sockdiag.TCP, sockdiag.MPTCP):
            if await self.target.in_network(partial(sockdiag.sockets, protocol, sockdiag.LISTEN, port)):
                return ""
        return "nothing listens on it: there is nothing to copy until something does"

    @handles(m.Release)
    async def release(self, asked: m.Release) -> m.Release:
        if self._steal is not None:
            await self._steal.release(asked.port)
        elif self._mirror is not None:
            self._mirror.release(asked.port)
        return asked

    async def _filter(self) -> None:
        """The matcher, and the worker that it asks."""
        told = partial(self.log.warning, "%s")
        matcher = Matcher(
            self.config.http_filter, self._judged, told, time.perf_counter, asyncio.ensure_future
        )
        if self._judge is not None:
            await self._judge.ready()
        size, body_within = self.config.max_body_buffer_size, self.config.max_body_buffer_timeout / 1000
        limits = Limits(body=size, body_within=body_within)
        debug = partial(self.log.debug, "%s")
        within, marks = self.config.http_detection_timeout, self.config.inject_headers
        if self.config.mode == "steal" and not marks and matcher.needles is not None:
            self._relay = Relay(matcher.needles)
        credential, relay = self._credentials.get, self._relay
        self._filtered = Filtered(
            matcher, limits, within, debug, self._astray, marks, credential=credential, relay=relay
        )

    def _astray(self, port: int, why: str) -> None:
        """Told once: whose requests these were will be asked."""
        if port not in self._strayed:
            self._strayed.add(port)
            self.log.warning(
                "port %d: what a client sent is not read as HTTP/1 (%s): all that follows on such a "
                "connection is the application's, also what the filter matches", port, why,
            )  # fmt: skip

    async def _is_heard(self) -> bool:
        """Does the layer answer? Its lease is longer than the application may wait for its port."""
        try:
            await self.peer.request(m.Here(), timeout=HEARD)
        except (OSError, PeerError):
            return False
        return True

    def _news(self, port: int, words: str) -> None:
        with suppress(BlockingIOError, PeerError):  # nothing hangs on it
            self.peer.send(m.News(port, words))

    def _judged(self, questions: list[Question]) -> Judge:
        self._judge = Judge(questions)
        return self._judge

    def _is_filtered(self, port: int) -> bool:
        return self.config.http_filter.concerns(port)

    def _requests_of(self, port: int) -> Filtered | None:
        """How a stolen port's requests are told apart; None: they are not."""
        filtered = self._filtered if self._is_filtered(port) else None
        here = on_port(self._probes, port) if self.config.probes in (keys.PASS, keys.ANSWER) else []
        probed = Probed(here, None if filtered is None else filtered.matcher)
        if not (probed.http or probed.grpc):
            return filtered
        if filtered is not None:
            return evolve(filtered, matcher=probed)
        within, debug = self.config.http_detection_timeout, partial(self.log.debug, "%s")
        answered = self.config.probes == keys.ANSWER
        return Filtered(probed, Limits(), within, debug, rest=probed, answered=answered)

    def _front(
        self, filtered: Filtered, sock: socket.socket, client: Place, address: Place, port: int
    ) -> None:
        assert self._steal is not None
        Front(sock, client, address, port, self._steal, self.peer, filtered)

    def _copied(self, port: int) -> Callable[[Ways], Copied] | None:
        if self._filtered is not None and self._is_filtered(port):
            return partial(Http, self._filtered)
        if port in self._exact:
            return None
        return partial(Http, Filtered(Everything(), Limits(), 0.0, partial(self.log.debug, "%s")), whole=True)
