"""An agent that takes ports of a target, and a layer that is this test."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from attrs import define

from pymirror.core.channel import Channel, Keys
from pymirror.core.feature import LayerFeature, Stream, handles
from pymirror.core.handshake import greet
from pymirror.core.probe import Probe
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from tests.sandbox.pod_network import PROGRAMS
from tests.sandbox.steal_network import PORT, WITHIN, Both

STEAL = Config(mode="steal")
RIGHTS = {"steal": "NET_ADMIN", "mirror": "NET_RAW"}


class Layer(LayerFeature):
    """The program and its layer: says who came, and each piece again."""

    name = m.NAME
    Config = Config
    news: list[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.news = []

    @handles(m.News)
    def told(self, news: m.News) -> None:
        self.news.append(news.words)

    @handles(m.Here)
    def here(self, asked: m.Here) -> m.Here:
        return asked

    @handles(m.Arrived)
    async def arrived(self, arrived: m.Arrived, stream: Stream) -> None:
        await stream.write(f"program {arrived.client} {arrived.client_port}\n".encode())
        while data := await stream.read():
            await stream.write(data)
        await stream.close_write()


@define
class Session:
    process: asyncio.subprocess.Process
    channel: Channel
    layer: Layer

    async def take(self, port: int = PORT) -> m.Subscribed:
        answer: m.Subscribed = await self.channel.peer(m.NAME).request(m.Subscribe(port))
        return answer

    async def release(self, port: int = PORT) -> None:
        await self.channel.peer(m.NAME).request(m.Release(port))

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), WITHIN)


@asynccontextmanager
async def session(
    both: Both,
    *options: str,
    whose: str = "ann@box",
    layer: type[Layer] = Layer,
    config: Config = STEAL,
    probes: Sequence[Probe] = (),
) -> AsyncIterator[Session]:
    keys = Keys.generate()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, PROGRAMS / "stealing_agent.py", f"--pid={both.target.pid}"),
        *(
            f"--layer-key={keys.public}",
            f"--rights=SYS_PTRACE,SYS_ADMIN,{RIGHTS[config.mode]}",
            "--drain=30",
            *options,
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), WITHIN))
        channel = await Channel.connect(f"tcp://127.0.0.1:{ready['port']}", keys, ready["key"])
        try:
            parts: list[Any] = [(layer, config)]
            await greet(channel, ready["pymirror_agent"], parts)
            half = layer(config, channel.peer(m.NAME))
            channel.serve(m.NAME, half)
            assert await channel.peer(m.NAME).request(m.Begin(whose, list(probes))) == m.Begun()
            yield Session(process, channel, half)
        finally:
            await channel.aclose()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
