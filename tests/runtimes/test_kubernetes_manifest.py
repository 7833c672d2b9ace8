"""The Job and the ephemeral container: nothing more than is needed, and admitted where promised."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import evolve

from pymirror.core.errors import ConfigError
from pymirror.core.session import AgentOrder
from pymirror.runtimes.kubernetes import ephemeral, job
from pymirror.runtimes.kubernetes.agentspec import arguments, capabilities, new_name, refuse_disabled
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.target import Chosen

CONFIG = Config(image="agent:1")
ORDER = AgentOrder("key", ("env", "fs"), 30.0, ("DAC_OVERRIDE", "SYS_PTRACE"))
TARGET = Chosen("api", "shop", "uid", "node1", "web", "c0ffee")


def a_pod(own: Any = None, shared: Any = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "web", **({"securityContext": own} if own else {})}
    return {
        "metadata": {"name": "api"},
        "spec": {"containers": [container], **({"securityContext": shared} if shared else {}), **spec},
        "status": {},
    }


def made(config: Config = CONFIG, target: Chosen | None = TARGET, label: str | None = "n1") -> dict[str, Any]:
    return job.manifest(config, "pymirror-agent-x", ORDER, target, label)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def test_names_are_random_and_valid() -> None:
    first, second = new_name(), new_name()
    assert first != second
    assert re.fullmatch(r"pymirror-agent-[a-z0-9]{10}", first)


def test_arguments_survive_the_kubelet() -> None:
    order = AgentOrder("-a$(HOME)$$b", ("env",), 30.0, ("DAC_OVERRIDE", "SYS_PTRACE"), lasting=1.5)
    words = arguments(CONFIG, order, ("--pid=1",))
    assert words[0] == "--layer-key=-a$$(HOME)$$$$b"  # `$` doubled, and no word of its own begins with a dash
    assert words[1:] == [
        "--pid=1",
        "--lease=30",
        "--drain=1.5",
        "--log-level=info",
        "--features=env",
        "--rights=DAC_OVERRIDE,SYS_PTRACE",
    ]


@pytest.mark.parametrize(
    ("rights", "disabled", "added"),
    [
        (("SYS_PTRACE", "NET_ADMIN"), (), ["NET_ADMIN", "SYS_PTRACE"]),
        (("DAC_OVERRIDE", "SYS_PTRACE"), ("CAP_SYS_PTRACE",), ["DAC_OVERRIDE"]),
        (("SYS_PTRACE",), ("sys_ptrace",), []),
        (("SYS_ADMIN", "SYS_PTRACE"), (), ["SYS_ADMIN", "SYS_PTRACE"]),
        ((), (), []),
    ],
)
def test_rights_are_those_ordered_without_the_disabled(
    rights: tuple[str, ...], disabled: tuple[str, ...], added: list[str]
) -> None:
    assert capabilities(rights, disabled) == added


def test_a_job_that_could_not_enter_the_network_is_refused_by_its_key() -> None:
    rights, without = ("SYS_ADMIN", "SYS_PTRACE"), evolve(CONFIG, disabled_capabilities=["CAP_SYS_ADMIN"])
    with pytest.raises(
        ConfigError, match=r"without SYS_ADMIN .* target's network, which this session's features need"
    ) as caught:
        refuse_disabled(without, rights)
    assert caught.value.place == "agent.disabled_capabilities" and "agent.ephemeral" in caught.value.hint
    refuse_disabled(without, ("SYS_PTRACE",))
    refuse_disabled(evolve(without, privileged=True), rights)
    refuse_disabled(CONFIG, rights)


def test_the_job_has_the_least_rights() -> None:
    manifest = made()
    pod = pod_of(manifest)
    context = pod["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "SYS_PTRACE"]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["hostPID"] is True
    assert "volumes" not in pod
    assert "hostNetwork" not in pod
    assert manifest["spec"]["backoffLimit"] == 0
    assert manifest["spec"]["ttlSecondsAfterFinished"] == 1
    assert "--container-id=c0ffee" in pod["containers"][0]["args"]


def test_the_job_is_placed_on_the_targets_node() -> None:
    assert pod_of(made())["nodeSelector"] == {"kubernetes.io/hostname": "n1"}
    assert pod_of(made(label=None))["nodeName"] == "node1"
    assert pod_of(made())["tolerations"] == [{"operator": "Exists"}]
    assert "tolerations" not in pod_of(made(evolve(CONFIG, tolerations=[])))
    assert "nodeSelector" not in pod_of(made(evolve(CONFIG, node_selector={"a": "b"}), label=None))


def test_labels_and_annotations_reach_job_and_pod() -> None:
    config = evolve(
        CONFIG, labels={"team": "a"}, annotations={"note": "b"}, disable_mesh_sidecar_injection=False
    )
    manifest = made(config)
    for meta in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert meta["labels"]["team"] == "a"
        assert meta["labels"]["app"] == "pymirror"
        assert meta["annotations"] == {"note": "b"}
    assert made()["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


def test_what_the_user_sets_is_set() -> None:
    config = evolve(
        CONFIG,
        service_account="sa",
        priority_class="high",
        image_pull_secrets=[{"name": "reg"}],
        resources={"limits": {"memory": "1Gi"}},
        security_context={"seccomp_profile": {"type": "Localhost", "localhost_profile": "p.json"}},
    )
    pod = pod_of(made(config))
    assert pod["serviceAccountName"] == "sa"
    assert pod["priorityClassName"] == "high"
    assert pod["imagePullSecrets"] == [{"name": "reg"}]
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert pod["securityContext"] == {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}
    assert "seccompProfile" not in pod["containers"][0]["securityContext"]


def test_without_a_target_there_are_no_rights() -> None:
    pod = pod_of(made(evolve(CONFIG, node_selector={"disk": "ssd"}), target=None, label=None))
    assert "hostPID" not in pod
    assert "tolerations" not in pod
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "--none" in pod["containers"][0]["args"]


def restricted(context: dict[str, Any]) -> list[str]:
    """What Pod Security `restricted` would say against a container's securityContext."""
    against = []
    if context.get("privileged"):
        against.append("privileged")
    if context.get("allowPrivilegeEscalation") is not False:
        against.append("allowPrivilegeEscalation")
    capabilities = context.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        against.append("capabilities")
    if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
        against.append("root")
    if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        against.append("seccomp")
    return against


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(own={"runAsUser": 1000, "runAsGroup": 2000}),
        a_pod(shared={"runAsUser": 1000, "runAsGroup": 2000}),
        a_pod(own={"runAsUser": 1000}, shared={"runAsUser": 5, "runAsGroup": 2000}),
        {
            **a_pod(),
            "status": {"containerStatuses": [{"name": "web", "user": {"linux": {"uid": 1000, "gid": 2000}}}]},
        },
    ],
)
def test_the_ephemeral_agent_is_admitted_as_the_targets_user(pod: dict[str, Any]) -> None:
    context = ephemeral.context(CONFIG, pod, TARGET, ORDER)
    assert (context["runAsUser"], context["runAsGroup"]) == (1000, 2000)
    assert restricted(context) == []
    assert ephemeral.second_patch(CONFIG, "x", ORDER, pod, TARGET) is None


def test_the_ephemeral_agent_of_a_root_target_has_a_second_way() -> None:
    pod = a_pod(own={"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})
    first = ephemeral.context(CONFIG, pod, TARGET, ORDER)
    assert first["capabilities"]["add"] == ["DAC_OVERRIDE", "SYS_PTRACE"]
    second = ephemeral.second_patch(CONFIG, "x", ORDER, pod, TARGET)
    assert second is not None
    context = second["spec"]["ephemeralContainers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}


def test_a_target_whose_user_only_its_image_knows_has_a_second_way_too() -> None:
    """Most images run as root without saying so in the pod."""
    second = ephemeral.second_patch(CONFIG, "x", ORDER, a_pod(), TARGET)
    assert second is not None
    context = second["spec"]["ephemeralContainers"][0]["securityContext"]
    assert context["runAsUser"] == 0
    assert "capabilities" not in context


def test_the_ephemeral_patch_names_the_target_container() -> None:
    patch = ephemeral.patch(CONFIG, "x", ORDER, a_pod(own={"runAsUser": 1}), TARGET)
    [container] = patch["spec"]["ephemeralContainers"]
    assert container["targetContainerName"] == "web"
    assert "--pid=1" in container["args"]
    assert "resources" not in container  # the API refuses them there
    shared = ephemeral.patch(CONFIG, "x", ORDER, a_pod(shareProcessNamespace=True), TARGET)
    assert "--container-id=c0ffee" in shared["spec"]["ephemeralContainers"][0]["args"]


def test_privileged_means_root() -> None:
    context = ephemeral.context(evolve(CONFIG, privileged=True), a_pod(), TARGET, ORDER)
    assert context["privileged"] is True
    assert "capabilities" not in context
