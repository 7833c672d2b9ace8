"""The first exchange on a channel: who we are, which features, with which configuration.

The layer says `Hello`; the agent loads the halves, starts them beside the target and says
`Welcome`, or refuses in words that name the half and the package to install. Configurations
travel here, inside the encrypted channel, so no secret is ever in a spec or an argument list.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import attrs
import msgspec

from pymirror.core import memory
from pymirror.core.errors import PeerError, PluginError
from pymirror.core.feature import AgentFeature, LayerFeature, Peer, Target, handles
from pymirror.core.limit import timeout
from pymirror.core.message import message
from pymirror.core.windows import TERMS, Terms

NAME = "core"
log = logging.getLogger("pymirror.core.handshake")


@message(NAME)
class Hello:
    """version: pymirror's, on the layer's side. features: name → version of the half, in order.

    configs: name → the feature's Config object, msgpack. windows: what both sides count streams by.
    """

    version: str
    features: dict[str, int]
    configs: dict[str, bytes]
    windows: Terms


@message(NAME)
class Welcome:
    """version: pymirror's, in the agent. features: name → version of the half that was started.

    windows: the layer's, by which the agent counts from now on.
    """

    version: str
    features: dict[str, int]
    windows: Terms


@message(NAME)
class Goodbye:
    """The layer is done; the agent ends without waiting for its lease."""


class Channel(Protocol):
    """The part of `core.channel.Channel` the handshake uses."""

    def peer(self, feature: str) -> Peer: ...

    def serve(self, feature: str, half: object) -> None: ...

    def agree(self, terms: Terms) -> None: ...


async def greet(
    channel: Channel,
    version: str,
    parts: Sequence[tuple[type[LayerFeature], Any]],
    windows: Terms = TERMS,
) -> Welcome:
    """Introduce the layer's halves (class, configuration) and await the agent's welcome.

    PeerError when the agent is of another version, lacks a half, or counts streams otherwise.
    """
    hello = Hello(
        version=version,
        features={half.name: half.version for half, _ in parts},
        configs={half.name: msgspec.msgpack.encode(config) for half, config in parts},
        windows=windows,
    )
    channel.agree(windows)
    welcome: Welcome = await channel.peer(NAME).request(hello)
    check_versions(hello, welcome.version, welcome.features)
    check_windows(windows, welcome.windows)
    return welcome


def check_versions(hello: Hello, version: str, features: Mapping[str, int]) -> None:
    """PeerError unless both sides are of the same pymirror version and the same halves."""
    if hello.version != version:
        raise PeerError(
            f"the agent is pymirror {version}, this side is {hello.version}",
            "use the agent image of the same version (agent.image), see docs/agent-image.md",
        )
    for name, wanted in hello.features.items():
        found = features.get(name)
        if found is None:
            raise PeerError(
                f"the agent has no half of the feature {name}",
                "install the package that brings it in the agent image, see docs/agent-image.md",
            )
        if found != wanted:
            raise PeerError(
                f"feature {name}: version {wanted} on this side, {found} in the agent",
                "install the same version of its package in the agent image",
            )


def check_windows(layer: Terms, agent: Terms) -> None:
    """PeerError unless they are the same: streams that two sides count differently stall without a word."""
    pairs = zip(attrs.asdict(layer).items(), attrs.astuple(agent), strict=True)
    differ = [f"{name} {here} here, {there} there" for (name, here), there in pairs if here != there]
    if differ:
        raise PeerError(
            f"this side and the agent count the bytes of streams differently: {'; '.join(differ)}",
            "build pymirror and the agent image (agent.image) from the same sources",
        )


class Desk:
    """The agent's side: answers the one `Hello` of a session and starts the halves it names.

    load: names → agent half classes; raises PluginError for what is not installed. `stack`
    gets every half's `aclose`. `left()` is called at the layer's goodbye.
    """

    def __init__(
        self,
        channel: Channel,
        version: str,
        load: Callable[[Sequence[str]], Mapping[str, type[AgentFeature]]],
        target: Target,
        stack: AsyncExitStack,
        left: Callable[[], None],
    ) -> None:
        self.channel, self.version, self.load, self.target = channel, version, load, target
        self.stack, self.left = stack, left
        self.greeted = False
        self._halves: list[AgentFeature] = []

    @handles(Hello)
    async def hello(self, hello: Hello) -> Welcome:
        if self.greeted:
            raise PeerError("this session was greeted already")
        self.greeted = True
        check_versions(hello, self.version, hello.features)
        self._agree(hello.windows)
        halves = self.load(list(hello.features))
        check_versions(hello, self.version, {name: half.version for name, half in halves.items()})
        for name, half in halves.items():
            await self._start(name, half, hello.configs[name])
        return Welcome(self.version, {name: half.version for name, half in halves.items()}, hello.windows)

    def _agree(self, windows: Terms) -> None:
        """The pools are the layer's to say, the rest must be as it is here."""
        check_windows(windows, Terms(windows.to_layer, windows.to_agent))
        if words := memory.too_much(windows.to_agent):
            raise PeerError(
                f"session.in_flight_to_agent: {windows.to_agent} is {words} in the agent",
                "set it lower, or give the agent more memory",
            )
        self.channel.agree(windows)

    async def _start(self, name: str, half: type[AgentFeature], encoded: bytes) -> None:
        try:
            config: Any = msgspec.msgpack.decode(encoded, type=half.Config)
        except msgspec.MsgspecError as error:
            raise PluginError(
                "", f"feature {name}: the agent cannot read its configuration: {error}"
            ) from error
        made = half(config, self.channel.peer(name))
        self.stack.push_async_callback(made.aclose)
        try:
            await made.start(self.target)
        except OSError as error:
            words = error.strerror or str(error)
            raise OSError(error.errno or errno.EIO, f"feature {name}: {words}") from error
        self._halves.append(made)
        self.channel.serve(name, made)

    async def drain(self, within: float) -> None:
        """No layer any more: let every half end what it began for others, for up to `within` seconds."""
        draining = asyncio.gather(*(half.drain() for half in self._halves), return_exceptions=True)
        try:
            async with timeout(within):
                results = await draining
        except asyncio.TimeoutError:
            log.info("what goes on without the layer is ended after %g s", within)
            return
        for error in results:
            if error is not None:
                log.error("what was to go on without the layer failed", exc_info=error)

    @handles(Goodbye)
    async def goodbye(self, _: Goodbye) -> None:
        log.info("the layer said goodbye")
        self.left()
