"""The agent half of `env`: reads the target's environment and sends what was selected, no more."""

from __future__ import annotations

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.env.config import Config as EnvConfig
from pymirror.features.env.messages import AskVariables, Variables
from pymirror.features.env.select import choose


class Agent(AgentFeature):
    """Keeps nothing: the environment is read when it is asked for."""

    name = "env"
    Config = EnvConfig

    async def start(self, target: Target) -> None:
        self.target = target

    @handles(AskVariables)
    async def variables(self, ask: AskVariables) -> Variables:
        """The selected variables. PermissionError names the right the agent lacks."""
        block, kept_back = bytearray(), []
        for name, value in self.target.environ().items():
            choice = choose(name.decode("utf-8", "surrogateescape"), ask.include, ask.exclude)
            if choice.taken:
                block += name + b"=" + value + b"\0"
            elif choice.by_default:
                kept_back.append(name)
        return Variables(bytes(block), kept_back)
