"""The agent.* keys whose values Kubernetes would refuse only after the Job was made."""

from __future__ import annotations

from typing import Any

import pytest

from pymirror.core.errors import ConfigError
from pymirror.core.structure import build
from pymirror.runtimes.kubernetes.config import Config

LONG = "a" * 64
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "agent"),
        ("image", "x:3"),
        ("image", "localhost/pymirror-agent:0.1.dev1"),
        ("image", "registry.example:5000/team_a/agent--x:v1_2"),
        ("image", f"[::1]:5000/agent@{DIGEST}"),
        ("image", {"registry": "r/i", "tag": "1"}),
        ("labels", {"app": "", "example.com/team": "a.b-c_D"}),
        ("annotations", {"example.com/why": "any text, {even} this"}),
        ("node_selector", {"kubernetes.io/arch": "amd64"}),
        ("resources", {"limits": {"cpu": 1, "memory": "200Mi", "example.com/gpu": "1e3"}}),
        ("resources", {"requests": {"cpu": 0.5, "memory": "1.5Gi"}}),
        ("resources", {}),
        ("tolerations", []),
        ("tolerations", [{"operator": "Exists"}]),
        ("tolerations", [{"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 3}]),
        ("image_pull_secrets", [{"name": "my-registry"}]),
        ("service_account", "agent.v1"),
        ("security_context", {"seccomp_profile": {"type": "Localhost", "localhost_profile": "a.json"}}),
        ("log_level", "Debug"),
        ("log_level", "mirrord=trace,warn"),
    ],
)
def test_what_kubernetes_takes_is_taken(name: str, value: Any) -> None:
    build(Config, {name: value}, "configuration")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("image", "", "'' is no image reference"),
        ("image", "BAD IMAGE", "'BAD IMAGE' is no image reference"),
        ("image", "Agent:1", "is no image reference"),
        ("image", "a:b:c", "is no image reference"),
        ("image", {"registry": ""}, "is no image reference"),
        ("labels", {"a b": "c"}, "'a b' is no key"),
        ("labels", {"a": "c d"}, "the value 'c d' of a "),
        ("labels", {LONG: "c"}, "is no key"),
        ("labels", {"a": LONG}, "the value "),
        ("labels", {"Not_A_Host/a": "b"}, "is no key"),
        ("annotations", {"/a": "b"}, "'/a' is no key"),
        ("node_selector", {"": "b"}, "'' is no key"),
        ("resources", {"limit": {}}, "unknown key 'limit'; known here: limits, requests, claims"),
        ("resources", {"limits": {"memory": "lots"}}, "limits.memory: 'lots' is no quantity"),
        ("resources", {"limits": {"memory": -1}}, "limits.memory: -1 is no quantity"),
        ("resources", {"limits": {"memory": True}}, "limits.memory: True is no quantity"),
        ("resources", {"requests": {"a b": 1}}, "requests: 'a b' is no name of a resource"),
        ("resources", {"requests": 3}, "requests: expected a mapping"),
        ("tolerations", [{"operator": "Exists"}, {"x": 1}], "[1]: unknown key 'x'; known here: key, "),
        ("tolerations", [{}], "[0]: without a key, operator must be Exists"),
        ("tolerations", [{"operator": "exists"}], "[0]: operator: 'exists' is not one of Exists, "),
        ("tolerations", [{"key": "a", "effect": "No"}], "[0]: effect: 'No' is not one of NoSchedule, "),
        ("tolerations", [{"key": "a", "tolerationSeconds": "3"}], "[0]: tolerationSeconds: expected"),
        ("image_pull_secrets", [{"nam": "x"}], "[0]: unknown key 'nam'"),
        ("image_pull_secrets", [{}], "[0]: needs the name of a Secret"),
        ("service_account", "A b", "'A b' is no name of Kubernetes'"),
        ("priority_class", "", "'' is no name of Kubernetes'"),
        ("security_context", {"seccomp_profile": {}}, "seccomp_profile: needs a type"),
        ("security_context", {"seccomp_profile": "RuntimeDefault"}, "seccomp_profile: needs a type"),
        ("security_context", {"seccomp": {}}, "unknown key 'seccomp'"),
        ("security_context", {"app_armor_profile": {"type": "x"}}, "app_armor_profile.type: 'x' is not"),
        ("log_level", "bogus", "'bogus' is not one of error, warn, info, debug, trace"),
        ("log_level", "mirrord=bogus", "is not one of error, "),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_by_its_key(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Config, {name: value}, "", {name: f"agent.{name}"})
    assert caught.value.message.startswith(f"agent.{name}: ")
    assert words in caught.value.message
