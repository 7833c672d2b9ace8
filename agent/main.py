"""The agent: a process beside the target that serves one layer and ends by itself.

It listens on loopback only, prints one ready line (JSON) on stdout, and logs on stderr.
It ends at the layer's goodbye, after `--lease` seconds without a sign of life (also before
the first one), with the target's first process, and on SIGTERM; nothing is left behind. Where the target
lives on, what a feature has begun for others than the layer may go on for up to `--drain` seconds.
Exit status: 0 ended as meant (goodbye, TERM, target gone), 1 lease over, 125 could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

from attrs import frozen

from pymirror.agent import namespaces, network, rights
from pymirror.agent.find import find_container
from pymirror.agent.logs import configure, level_of
from pymirror.agent.target import OwnTarget, ProcessTarget
from pymirror.core import registry
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PluginError, PymirrorError
from pymirror.core.feature import AgentFeature
from pymirror.core.handshake import NAME as HANDSHAKE
from pymirror.core.handshake import Desk

log = logging.getLogger("pymirror.agent")

OK, LEASE_OVER = 0, 1


@frozen
class Ended:
    """Why the agent ends."""

    reason: str
    exit_status: int = OK
    drains: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run an agent to its end; the exit status."""
    order = parse(argv)
    configure(level_of(order.log_level), as_json=order.json_log)
    try:
        keep = rights.numbers(names_in(order.rights))
        target = find_target(order, keep & network.THERE)
        rights.confine(keep - network.ONCE - network.THERE)
        if order.parent is not None:
            rights.end_with(order.parent)
        return asyncio.run(serve(order, target))
    except (PymirrorError, OSError) as error:
        log.error("%s", error)
        return PymirrorError.exit_status


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 and its own words when it is wrong."""
    parser = argparse.ArgumentParser(prog="pymirror-agent", description="pymirror's process beside a target")
    parser.add_argument("--layer-key", required=True, help="public key of the one layer let in (Z85)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pid", type=int, help="the target's first process")
    where.add_argument("--container-id", help="find the target's first process by its container's id")
    where.add_argument(
        "--self",
        action="store_const",
        dest="pid",
        const=1,
        help="the first process of the agent's own PID namespace (ephemeral container)",
    )
    where.add_argument("--none", action="store_true", help="no target: the agent's own surroundings")
    parser.add_argument("--lease", type=float, default=30.0, help="seconds of silence it outlives")
    parser.add_argument("--drain", type=float, default=0.0, help="seconds for what goes on without a layer")
    parser.add_argument("--features", default="", help="names of the features to serve, with commas")
    parser.add_argument("--rights", default="", help="capabilities to keep if it has them, with commas")
    parser.add_argument("--parent", type=int, help="end with this process, which started the agent")
    parser.add_argument(
        "--log-level", default=os.environ.get("PYMIRROR_LOG", ""), help="else $PYMIRROR_LOG, else info"
    )
    parser.add_argument("--json-log", action="store_true", help="log lines as JSON objects")
    return parser.parse_args(argv)


def names_in(words: str) -> list[str]:
    """`a,b` → a, b."""
    return [name for name in words.split(",") if name]


def find_target(order: argparse.Namespace, keep: frozenset[int] = frozenset()) -> ProcessTarget | OwnTarget:
    """The target the command line names; keep: capabilities for its network. UserError, SupportError."""
    if order.none:
        return OwnTarget()
    pid = order.pid
    if order.container_id is not None:
        choice = find_container(order.container_id)
        log.info("target: process %d, %s", choice.pid, choice.reason)
        pid = choice.pid
    if os.geteuid() != 0:  # root has its rights where it is, and what it names as owner is meant there
        namespaces.join_user(pid)
    return ProcessTarget(pid, keep)


async def serve(order: argparse.Namespace, target: ProcessTarget | OwnTarget) -> int:
    """Listen, say so, serve until something ends it."""
    async with AsyncExitStack() as stack:
        stack.callback(target.close)
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        end = ending(ended)
        _watch(target, end)
        channel = Channel.listen(keys := Keys.generate(), order.layer_key, lease=order.lease)
        stack.push_async_callback(channel.aclose)
        load = loader(names_in(order.features))
        left = partial(end, Ended("the layer said goodbye"))
        desk = Desk(channel, version("pymirror"), load, target, stack, left)
        channel.serve(HANDSHAKE, desk)
        silence = asyncio.ensure_future(_silence(channel, end))
        stack.callback(silence.cancel)
        print(ready_line(keys.public, channel.port), flush=True)
        how = await ended
        log.info("ending: %s", how.reason)
        if how.drains and order.drain > 0:
            await desk.drain(order.drain)
        return how.exit_status


def ready_line(key: str, port: int) -> str:
    """What a runtime waits for: one line, nothing secret."""
    return json.dumps({"pymirror_agent": version("pymirror"), "key": key, "port": port})


def ending(ended: asyncio.Future[Ended]) -> Callable[[Ended], None]:
    """Set the reason once; later ones change nothing."""

    def end(how: Ended) -> None:
        if not ended.done():
            ended.set_result(how)

    return end


def loader(allowed: Sequence[str]) -> Callable[[Sequence[str]], Mapping[str, type[AgentFeature]]]:
    """Loads halves by name, only those the agent was ordered with (none named: any)."""

    def load(names: Sequence[str]) -> Mapping[str, type[AgentFeature]]:
        for name in names:
            if allowed and name not in allowed:
                raise PluginError(
                    "",
                    f"feature {name}: this agent was started for {', '.join(allowed)} only",
                    "start the session again, so that its agent gets the same features",
                )
        return {name: half.cls for name, half in registry.agent_halves(names).items()}

    return load


def _watch(target: ProcessTarget | OwnTarget, end: Callable[[Ended], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, Ended(signal.Signals(number).name))
    if target.pidfd >= 0:
        loop.add_reader(target.pidfd, _target_gone, loop, target.pidfd, end)


def _target_gone(loop: asyncio.AbstractEventLoop, pidfd: int, end: Callable[[Ended], None]) -> None:
    loop.remove_reader(pidfd)
    end(Ended("the target's first process has ended", drains=False))


async def _silence(channel: Channel, end: Callable[[Ended], None]) -> None:
    end(Ended(f"no layer: {await channel.wait_closed()}", LEASE_OVER))


if __name__ == "__main__":
    sys.exit(main())
