"""The keys of the kubernetes runtime: how the API server is reached, and what the agent's pod is like.

Names, places and meanings are mirrord's (2.3 and 8.1); defaults differ where the reason is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

from attrs import frozen

from pymirror.core.config import Flag, key, not_negative, one_of, positive
from pymirror.core.errors import ConfigError
from pymirror.runtimes.kubernetes import syntax


def default_image() -> str:
    """The image that scripts/build tags; there is no public registry to pull another from."""
    return f"localhost/pymirror-agent:{version('pymirror')}"


def _image(value: str | Mapping[str, str]) -> str:
    if isinstance(value, str):
        return value
    unknown = set(value) - {"registry", "tag"}
    if unknown:
        raise ConfigError(f"agent.image.{min(unknown)}", "unknown key", "known here: registry, tag")
    name, _, tag = default_image().rpartition(":")
    return f"{value.get('registry', name)}:{value.get('tag', tag)}"


@frozen
class StartupRetry:
    """Repeating requests to the API server while starting: exponential, with jitter."""

    min_ms: int = key(500, validator=positive, help="First wait, milliseconds.")
    max_ms: int = key(5000, validator=positive, help="Longest wait, milliseconds.")
    max_retries: int = key(2, validator=not_negative, help="How often a request is repeated.")

    def __attrs_post_init__(self) -> None:
        if self.min_ms > self.max_ms:
            raise ValueError(f"min_ms: must be at most max_ms ({self.max_ms}), got {self.min_ms}")


@frozen
class Config:
    """What the runtime is told; every field says its place in the file."""

    variables: ClassVar[tuple[str, ...]] = ("AGENT_IMAGE_REGISTRY", "AGENT_IMAGE_TAG")

    kubeconfig: str | None = key(None, env="KUBECONFIG", at="kubeconfig", help="Path of the kubeconfig.")
    kube_context: str | None = key(
        None,
        env="KUBE_CONTEXT",
        flags=[Flag(("--context",), looking=True)],
        at="kube_context",
        help="Context to use.",
    )
    accept_invalid_certificates: bool | None = key(
        None,
        env="ACCEPT_INVALID_CERTIFICATES",
        flags=[Flag(("-c", "--accept-invalid-certificates"), bare="true", looking=True)],
        at="accept_invalid_certificates",
        help="Do not verify the API server's certificate.",
    )
    use_proxy: bool = key(True, env="PROXY", at="use_proxy", help="Obey HTTPS_PROXY for the API server.")
    startup_retry: StartupRetry = key(
        factory=StartupRetry, at="startup_retry", help="Repeating requests to the API server while starting."
    )
    image: str | dict[str, str] = key(
        factory=default_image,
        env="AGENT_IMAGE",
        flags=[Flag(("-i", "--agent-image"))],
        at="agent.image",
        converter=_image,
        validator=syntax.image,
        help="The agent's image: a reference, or {registry, tag}.",
    )
    image_pull_policy: str = key(
        "IfNotPresent",
        env="AGENT_IMAGE_PULL_POLICY",
        at="agent.image_pull_policy",
        validator=one_of("Always", "IfNotPresent", "Never"),
        help="When the node pulls the image.",
    )
    image_pull_secrets: list[dict[str, str]] = key(
        factory=list,
        at="agent.image_pull_secrets",
        validator=syntax.secrets,
        help="Secrets for the registry: [{name: …}].",
    )
    namespace: str | None = key(
        None,
        env="AGENT_NAMESPACE",
        flags=[Flag(("-a", "--agent-namespace"))],
        at="agent.namespace",
        help="Namespace of the agent's Job.",
    )
    ttl: int = key(
        1,
        env="AGENT_TTL",
        flags=[Flag(("--agent-ttl",))],
        at="agent.ttl",
        validator=not_negative,
        help="Seconds a finished Job is kept.",
    )
    ephemeral: bool = key(
        False,
        env="EPHEMERAL_CONTAINER",
        flags=[Flag(("-e", "--ephemeral-container"), text="true")],
        at="agent.ephemeral",
        help="Agent as an ephemeral container of the target.",
    )
    communication_timeout: int | None = key(
        None,
        env="AGENT_COMMUNICATION_TIMEOUT",
        at="agent.communication_timeout",
        validator=positive,
        help="Accepted; no effect: the agent waits for session.lease seconds.",
    )
    startup_timeout: int = key(
        60,
        env="AGENT_STARTUP_TIMEOUT",
        flags=[Flag(("--agent-startup-timeout",))],
        at="agent.startup_timeout",
        validator=positive,
        help="Seconds for starting, all in all.",
    )
    log_level: str = key(
        "info",
        env="AGENT_RUST_LOG",
        flags=[Flag(("-l", "--agent-log-level"))],
        at="agent.log_level",
        validator=syntax.log_level,
        help="The agent's log level.",
    )
    json_log: bool = key(False, env="AGENT_JSON_LOG", at="agent.json_log", help="The agent logs JSON lines.")
    disabled_capabilities: list[str] = key(
        factory=list,
        at="agent.disabled_capabilities",
        help="Capabilities not to ask for, with what that costs.",
    )
    tolerations: list[dict[str, Any]] | None = key(
        None,
        at="agent.tolerations",
        validator=syntax.tolerations,
        help="Tolerations of the Job's pod; [] for none (default: all taints).",
    )
    resources: dict[str, Any] | None = key(
        None,
        at="agent.resources",
        validator=syntax.resources,
        help="Requests and limits of the Job's pod.",
    )
    check_out_of_pods: bool = key(
        True,
        at="agent.check_out_of_pods",
        help="See that the node has a free pod slot before anything is created.",
    )
    privileged: bool = key(
        False, at="agent.privileged", help="Privileged agent, for strict SELinux or Bottlerocket."
    )
    labels: dict[str, str] = key(
        factory=dict, at="agent.labels", validator=syntax.labels, help="More labels on Job and pod."
    )
    annotations: dict[str, str] = key(
        factory=dict,
        at="agent.annotations",
        validator=syntax.annotation_keys,
        help="More annotations on Job and pod.",
    )
    node_selector: dict[str, str] = key(
        factory=dict,
        at="agent.node_selector",
        validator=syntax.labels,
        help="Where an agent without a target runs.",
    )
    service_account: str | None = key(
        None,
        at="agent.service_account",
        validator=syntax.object_name,
        help="Service account of the Job's pod.",
    )
    priority_class: str | None = key(
        None,
        at="agent.priority_class",
        validator=syntax.object_name,
        help="Priority class of the Job's pod.",
    )
    security_context: dict[str, Any] | None = key(
        None,
        at="agent.security_context",
        validator=syntax.security_context,
        help="{seccomp_profile, app_armor_profile} of the pod.",
    )
    disable_mesh_sidecar_injection: bool = key(
        True, at="agent.disable_mesh_sidecar_injection", help="Opt out of service mesh sidecars."
    )

    @classmethod
    def environment(cls, values: Mapping[str, str]) -> dict[str, Any]:
        """AGENT_IMAGE_REGISTRY and AGENT_IMAGE_TAG, two variables for one key (mirrord: 8.1 image)."""
        parts = {"registry": values.get("AGENT_IMAGE_REGISTRY"), "tag": values.get("AGENT_IMAGE_TAG")}
        given = {name: text for name, text in parts.items() if text}
        return {"image": given} if given else {}

    def warnings(self) -> list[str]:
        """Keys without effect, alone or together (mirrord: 2.6)."""
        found = []
        if self.ephemeral and self.namespace:
            found.append("agent.namespace has no effect: an ephemeral agent is in its target's namespace")
        if self.communication_timeout is not None:
            found.append(
                "agent.communication_timeout has no effect: the agent waits for session.lease seconds"
            )
        return found
