"""The layer half of `hostname`: answers uname and gethostname with the target's name.

The name is asked for once, before the program starts; the engine then answers by itself.
Without a target the program keeps this machine's name: an agent's is nobody's wish.
"""

from __future__ import annotations

from typing import ClassVar

from pymirror.core.call import Call, Scope, Text, Untouched, Verdict
from pymirror.core.feature import Launch, LayerFeature, intercepts
from pymirror.features.hostname.config import Config as HostnameConfig
from pymirror.features.hostname.messages import AskHostname, Hostname

LIMIT = 64
"""Bytes of a host name in the kernel's `struct new_utsname`."""


class Layer(LayerFeature):
    name = "hostname"
    Config: ClassVar[type] = HostnameConfig
    config: HostnameConfig
    verdict: Verdict = Untouched("hostname: not known yet")

    @classmethod
    def wanted(cls, config: HostnameConfig) -> bool:
        return config.enabled

    async def prepare(self, launch: Launch) -> None:
        name = b""
        if launch.has_target:
            answer: Hostname = await self.peer.request(AskHostname())
            name = bytes(answer.name)
        self.verdict = decide(name, launch.has_target)
        launch.known.append((Call("hostname"), self.verdict))
        launch.notes.append(note(self.verdict))

    @intercepts("hostname", pure=True)
    def hostname(self, _: Call) -> Verdict:
        return self.verdict

    @classmethod
    def explain(cls, config: HostnameConfig, call: Call) -> Verdict | None:
        if call.name != "hostname":
            return None
        return Verdict("hostname: the target's host name, this machine's without a target")


def decide(name: bytes, has_target: bool) -> Verdict:
    """The verdict on every question for the host name."""
    if not has_target:
        return Untouched("hostname: no target", scope=Scope.CALL)
    if not name:
        return Untouched("hostname: nothing in the target tells it", scope=Scope.CALL)
    return Text("hostname: the target's", value=name[:LIMIT], scope=Scope.CALL)


def note(verdict: Verdict) -> str:
    """The summary's line."""
    if isinstance(verdict, Text):
        return f"host name: {verdict.value.decode('utf-8', 'replace')}"
    return f"host name: this machine's ({verdict.reason.partition(': ')[2]})"
