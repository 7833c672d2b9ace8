"""The agent half of `hostname`: the name as the target sees it (agent/target.py finds it)."""

from __future__ import annotations

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.hostname.config import Config as HostnameConfig
from pymirror.features.hostname.messages import AskHostname, Hostname


class Agent(AgentFeature):
    name = "hostname"
    Config = HostnameConfig

    async def start(self, target: Target) -> None:
        self.target = target

    @handles(AskHostname)
    async def hostname(self, _: AskHostname) -> Hostname:
        return Hostname(self.target.hostname())
