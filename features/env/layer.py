"""The layer half of `env`: lays the target's environment over the program's, before it starts.

All is done in `prepare`; nothing is intercepted. The kernel refuses a program whose arguments
and environment are too long (E2BIG): the summary then says so, and what makes them shorter.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pymirror.core.call import Call, Text, Untouched, Verdict
from pymirror.core.configfile import regular
from pymirror.core.errors import ConfigError, PeerError
from pymirror.core.feature import Launch, LayerFeature
from pymirror.features.env import dotenv
from pymirror.features.env.config import Config as EnvConfig
from pymirror.features.env.messages import AskVariables, Variables
from pymirror.features.env.select import AWS, MAGIC, choose, is_unset, mapped, merge, unpack

ENTRY_LIMIT = 128 * 1024
"""Bytes of one `NAME=value` that execve takes: MAX_ARG_STRLEN, 32 pages."""
POINTER = 8


class Layer(LayerFeature):
    name = "env"
    Config: ClassVar[type] = EnvConfig
    config: EnvConfig

    @classmethod
    def check(cls, config: EnvConfig) -> None:
        """The env_file can be read and parsed. ConfigError."""
        read_env_file(config)

    @classmethod
    def rights(cls, config: EnvConfig) -> frozenset[str]:
        return frozenset({"SYS_PTRACE", "DAC_OVERRIDE"})  # /proc/PID/environ is mode 0400

    async def prepare(self, launch: Launch) -> None:
        """Ask once, merge, and say in a note what came from where. OSError as the agent met it."""
        try:
            answer: Variables = await self.peer.request(
                AskVariables(self.config.include, self.config.exclude)
            )
        except PermissionError as error:
            raise PeerError(
                f"feature env: the target's environment may not be read: {error.strerror}",
                "run an ephemeral agent as the target's user (agent.ephemeral), or `feature.env: false`",
            ) from error
        merged = merge(
            launch.environ,
            unpack(bytes(answer.block)),
            env_file=read_env_file(self.config),
            mapping=self.config.mapping,
            override=self.config.override,
            unset=self.config.unset,
            hidden=AWS if self.config.aws else frozenset(),
        )
        launch.environ.clear()
        launch.environ.update(merged.environ)
        launch.notes.append(note(merged.sources, answer.kept_back, launch.has_target))
        stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
        warning = too_long(launch.argv, launch.environ, sys.maxsize if stack < 0 else stack)
        if warning is not None:
            launch.notes.append(warning)

    @classmethod
    def explain(cls, config: EnvConfig, call: Call) -> Verdict | None:
        """`Call("env", b"NAME")`: what the program would see, and the rule. Reads env_file only."""
        if call.name != "env":
            return None
        return explain(config, read_env_file(config), os.fsdecode(call.path))


def explain(config: EnvConfig, env_file: dict[str, str], name: str) -> Verdict:
    """The last rule that touches the name decides, so the steps are asked from the end."""
    if is_unset(name, config.unset):
        return Verdict("env.unset: the program does not have it")
    if name in config.override:
        return Text("env.override", value=os.fsencode(config.override[name]))
    choice = choose(name, config.include, config.exclude)
    pattern = mapped(name, config.mapping)
    if pattern is not None and (choice.taken or name in env_file):
        return Text(f"env.mapping {pattern}", value=os.fsencode(config.mapping[pattern]))
    if name in env_file:
        return Text(f"env.env_file {config.env_file}", value=os.fsencode(env_file[name]))
    hidden = config.aws and name in AWS
    if choice.taken:
        other = f"none ({MAGIC})" if hidden else "the one from here"
        return Verdict(f"{choice.reason}: the target's value where it has one, else {other}")
    if hidden:
        return Verdict(f"{MAGIC}: the program does not have it")
    return Untouched(choice.reason)


def read_env_file(config: EnvConfig) -> dict[str, str]:
    """The entries of env_file, none without one. ConfigError naming file and line."""
    if config.env_file is None:
        return {}
    path = Path(config.env_file).expanduser()
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", opener=regular) as file:
            return dotenv.parse(file.read())
    except OSError as error:
        raise ConfigError(
            "feature.env.env_file",
            f"{path}: {error.strerror}",
            "a relative path starts at the current folder",
        ) from error
    except ValueError as error:
        raise ConfigError("feature.env.env_file", f"{path}: {error}") from error


def note(sources: Mapping[str, str], kept_back: Sequence[bytes], has_target: bool) -> str:
    """The summary's words: how many came from the target, what stayed, what was set or removed.

    Without a target the agent's own variables are the ones there are: those its cluster gives any pod.
    """
    count = sum(source == "the target" for source in sources.values())
    owner = "the target" if has_target else "the agent itself (there is no target)"
    parts = [f"environment: {count} variables of {owner}"]
    removed = len([source for source in sources.values() if source in ("env.unset", MAGIC)])
    changed = len(sources) - count - removed
    if changed:
        parts.append(f"{changed} set by the configuration")
    if removed:
        parts.append(f"{removed} removed")
    if kept_back:
        names = sorted(os.fsdecode(name) for name in kept_back)
        shown = ", ".join(names[:4]) + ("…" if len(names) > 4 else "")
        parts.append(f"{len(names)} kept from here ({shown})")
    return ", ".join(parts)


def too_long(argv: Sequence[str], environ: Mapping[str, str], stack: int) -> str | None:
    """The summary's warning where execve would say E2BIG. stack: the stack's soft limit in bytes.

    execve(2): a string takes at most 32 pages; all together, with a pointer each, a quarter of
    the stack's limit, but at least 32 pages and at most 6 MiB.
    """
    sizes = {name: len(os.fsencode(f"{name}={value}")) + 1 for name, value in environ.items()}
    over = sorted(name for name, size in sizes.items() if size > ENTRY_LIMIT)
    if over:
        what = f"a program cannot be started with {', '.join(over)}: more than {ENTRY_LIMIT // 1024} KiB"
        return f"environment: {what}; leave it out with feature.env.exclude"
    arguments = sum(len(os.fsencode(word)) + 1 + POINTER for word in argv)
    total = arguments + sum(sizes.values()) + POINTER * len(sizes)
    limit = max(min(stack // 4, 6 << 20), ENTRY_LIMIT)
    if total <= limit:
        return None
    what = f"{total // 1024} KiB of arguments and variables, a program may have {limit // 1024} KiB here"
    return f"environment: {what}; take fewer with feature.env.include, or raise `ulimit -s`"
