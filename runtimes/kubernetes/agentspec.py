"""What every agent container has, whichever way it is started: arguments, rights, names. Pure.

Rights are the least the session's features need (docs/agent-image.md has the measured table);
whatever is not listed here is dropped.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any, Protocol

from pymirror.core.errors import ConfigError
from pymirror.core.session import AgentOrder

Json = dict[str, Any]

CONTAINER = "pymirror-agent"  # constant, so that admission policies can name it
PREFIX = "pymirror-agent-"  # of an agent's own name
LABEL = "pymirror.io/agent"  # on the agent's pod, with the Job's name
APP = {"app": "pymirror"}
ENTERING = "SYS_ADMIN"  # to enter a network namespace; an ephemeral container is in its pod's already
LOG_LEVELS = {"error": "error", "warn": "warning", "warning": "warning", "debug": "debug", "trace": "debug"}
"""mirrord's words for the agent's log level as ours; any other filter means info."""
DEFAULT_RESOURCES: Json = {
    "requests": {"cpu": "1m", "memory": "1Mi"},  # never the reason why a full node has no room
    "limits": {"cpu": "1", "memory": "200Mi"},
}


class AgentSettings(Protocol):
    """The agent.* keys of runtimes/kubernetes/config.py that shape the agent's container and pod."""

    @property
    def image(self) -> str: ...
    @property
    def image_pull_policy(self) -> str: ...
    @property
    def image_pull_secrets(self) -> Sequence[Any]: ...
    @property
    def ttl(self) -> int: ...
    @property
    def tolerations(self) -> Sequence[Any] | None: ...
    @property
    def resources(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def annotations(self) -> Any: ...
    @property
    def node_selector(self) -> Any: ...
    @property
    def service_account(self) -> str | None: ...
    @property
    def priority_class(self) -> str | None: ...
    @property
    def privileged(self) -> bool: ...
    @property
    def disabled_capabilities(self) -> Sequence[str]: ...
    @property
    def security_context(self) -> Any: ...
    @property
    def disable_mesh_sidecar_injection(self) -> bool: ...
    @property
    def log_level(self) -> str: ...
    @property
    def json_log(self) -> bool: ...


def new_name() -> str:
    """PREFIX and ten random characters (51 bits: two sessions never meet)."""
    system = random.SystemRandom()
    return PREFIX + "".join(system.choices(string.ascii_lowercase + string.digits, k=10))


def arguments(settings: AgentSettings, order: AgentOrder, place: Sequence[str]) -> list[str]:
    """The agent's arguments; place: `--pid N`, `--container-id ID`, `--self` or `--none`.

    One word per option: a key may begin with a dash. `$` is doubled: the kubelet expands `$(NAME)`.
    """
    level = LOG_LEVELS.get(settings.log_level.lower(), "info")
    times = f"--lease={order.lease:g}", f"--drain={order.lasting:g}"
    words = [f"--layer-key={order.layer_key}", *place, *times, f"--log-level={level}"]
    if settings.json_log:
        words.append("--json-log")
    if order.features:
        words.append(f"--features={','.join(order.features)}")
    if order.rights:
        words.append(f"--rights={','.join(order.rights)}")
    return [word.replace("$", "$$") for word in words]


def capabilities(rights: Sequence[str], disabled: Sequence[str]) -> list[str]:
    """What to add of the rights the session's features need, sorted."""
    return sorted(set(rights) - {name.removeprefix("CAP_").upper() for name in disabled})


def refuse_disabled(settings: AgentSettings, rights: Sequence[str]) -> None:
    """ConfigError for a Job's agent that could not do what the session is for, before there is one."""
    given = capabilities(rights, settings.disabled_capabilities)
    if settings.privileged or ENTERING not in rights or ENTERING in given:
        return
    raise ConfigError(
        "agent.disabled_capabilities",
        f"without {ENTERING} the agent cannot enter the target's network, which this session's features need",
        f"take {ENTERING} out of it, set agent.ephemeral, which is in there, or turn feature.network off",
    )


def security(add: Sequence[str], privileged: bool) -> Json:
    """The container's securityContext: everything dropped but `add`."""
    if privileged:
        return {"privileged": True, "runAsUser": 0, "runAsNonRoot": False, "readOnlyRootFilesystem": True}
    dropped: Json = {"drop": ["ALL"]}
    if add:
        dropped["add"] = list(add)
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": dropped,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(settings: AgentSettings, name: str, args: Sequence[str], context: Json) -> Json:
    """The fields a Job's container and an ephemeral one share."""
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": list(args),
        "securityContext": context,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
