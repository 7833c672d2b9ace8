"""Every key of mirrord's files is known here: it is served, said to be without effect, or refused by its name."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from pymirror.cli.common import vocabulary
from pymirror.core.config import Settings, resolve
from pymirror.core.errors import ConfigError

INNER = {"header": "^a: b$"}
TRUSTED = {"protocol": "tls"}
FILTER = "feature.network.incoming.http_filter"
DELIVERY = "feature.network.incoming.tls_delivery"

# mirrord: 2.3, 2.4 and 8.1, each with a value that mirrord takes and that is not the default here.
SERVED: dict[str, Any] = {
    "accept_invalid_certificates": True,
    "skip_processes": "nginx",
    "skip_build_tools": False,
    "skip_extra_build_tools": ["make"],
    "kubeconfig": "~/.kube/other",
    "kube_context": "other",
    "use_proxy": False,
    "key": "mine",
    "startup_retry.min_ms": 100,
    "startup_retry.max_ms": 9000,
    "startup_retry.max_retries": 5,
    "target": "pod/web",
    "target.path": "pod/web/container/main",
    "target.pod": "web",
    "target.namespace": "shop",
    "feature.env": False,
    "feature.env.include": "A*",
    "feature.env.exclude": ["B"],
    "feature.env.override": {"C": "1"},
    "feature.env.unset": "D",
    "feature.env.mapping": {"^E": "1"},
    "feature.env.env_file": "/dev/null",
    "feature.hostname": False,
    "feature.magic.aws": True,
    "feature.magic.auto_mount": True,
    "feature.fs": "local",
    "feature.fs.mode": "localwithoverrides",
    "feature.fs.read_write": "^/a",
    "feature.fs.read_only": ["^/b"],
    "feature.fs.local": ["^/c"],
    "feature.fs.not_found": ["^/d"],
    "feature.fs.mapping": {"^/e": "/f"},
    "feature.fs.readonly_file_buffer": 0,
    "feature.network": False,
    "feature.network.incoming": "steal",
    "feature.network.incoming.mode": "mirror",
    f"{FILTER}.header_filter": "^a: b$",
    f"{FILTER}.path_filter": "^/a",
    f"{FILTER}.method_filter": "POST",
    f"{FILTER}.header_filter_jq": "true",
    f"{FILTER}.body_filter": {"body": "json", "query": "$.a", "matches": "b"},
    f"{FILTER}.all_of": [INNER],
    f"{FILTER}.any_of": [INNER],
    f"{FILTER}.ports": 80,
    "feature.network.incoming.port_mapping": [[8080, 80]],
    "feature.network.incoming.ports": [80],
    "feature.network.incoming.ignore_ports": [81],
    "feature.network.incoming.listen_ports": [[80, 8080]],
    "feature.network.incoming.ignore_localhost": True,
    "feature.network.incoming.https_delivery": TRUSTED,
    DELIVERY: TRUSTED,
    f"{DELIVERY}.protocol": "tcp",
    "feature.network.outgoing": False,
    "feature.network.outgoing.tcp": False,
    "feature.network.outgoing.udp": False,
    "feature.network.outgoing.ignore_localhost": True,
    "feature.network.outgoing.filter": {"remote": ["10.0.0.0/8"]},
    "feature.network.outgoing.unix_streams": "^/run/a",
    "feature.network.dns": False,
    "feature.network.dns.enabled": False,
    "feature.network.dns.filter": {"local": ["example.com"]},
}
SERVED |= {
    f"{DELIVERY}.{name}": value
    for name, value in {
        "trust_roots": ["/a.pem"],
        "server_cert": "/b.pem",
        "server_name": "c.example",
    }.items()
}
SERVED |= {
    f"agent.{name}": value
    for name, value in {
        "log_level": "debug",
        "json_log": True,
        "namespace": "tools",
        "image": "localhost/agent:1",
        "image.registry": "localhost/agent",
        "image.tag": "1",
        "image_pull_policy": "Always",
        "image_pull_secrets": [{"name": "a"}],
        "ttl": 30,
        "ephemeral": True,
        "startup_timeout": 90,
        "flush_connections": True,
        "disabled_capabilities": ["NET_ADMIN"],
        "tolerations": [],
        "resources": {"limits": {"cpu": "1"}},
        "check_out_of_pods": False,
        "privileged": True,
        "labels": {"a": "b"},
        "annotations": {"a": "b"},
        "node_selector": {"a": "b"},
        "service_account": "agent",
        "priority_class": "high",
        "inject_headers": True,
        "max_body_buffer_size": 100,
        "max_body_buffer_timeout": 100,
        "http_detection_timeout": 3,
        "security_context": {"seccomp_profile": {"type": "RuntimeDefault"}},
        "disable_mesh_sidecar_injection": False,
    }.items()
}


def words(prefix: str, names: str) -> list[str]:
    return [f"{prefix}.{name}" if prefix else name for name in names.split()]


WITHOUT_EFFECT = [
    "feature.env.load_from_process",
    "feature.magic.turbo",
    "agent.communication_timeout",
    *words("", "api telemetry skip_sip sip_binaries traceparent baggage ci.output_dir"),
    *words("internal_proxy", "start_idle_timeout idle_timeout socket_timeout ping_interval log_level"),
    *words("internal_proxy", "log_destination json_log process_logging_interval"),
    *words("external_proxy", "tls_enable start_idle_timeout idle_timeout log_level log_destination json_log"),
    *words("external_proxy", "host_ip"),
    *words("experimental", "tcp_ping4_mock enable_exec_hooks_linux use_dev_null hide_ipv6_interfaces"),
    *words("experimental", "idle_local_http_connection_timeout guard_std_fds go_asmcgocall dlopen_cgo"),
    *words("experimental", "browser_extension_config disable_reuseaddr trust_any_certificate"),
    *words("experimental", "ignore_system_proxy_config applev.a sip_log_destination sip_utils"),
    *words("experimental", "non_blocking_tcp_connect latency.transmit_delay latency.receive_delay"),
    *words("agent", "external_ip_fix nftables exclude_from_mesh override_cache_control"),
    *words("agent", "clean_iptables_on_start jaq_time_limit"),
]
REFUSED = [
    *words("", "operator multi_cluster profile"),
    *words("container", "cli_image cli_extra_args cli_prevent_cleanup cli_image_lib_path cli_tls_path"),
    *words("container", "override_host_ip host_gateway_detection platform"),
    *words("feature.network", "ipv6 incoming.on_concurrent_steal"),
    *words("feature.copy_target", "enabled scale_down exclude_containers exclude_init_containers"),
    *words("feature", "copy_target split_queues split_queues.a.queue_type db_branches"),
    *words("feature.preview", "image ttl_mins ttl_secs creation_timeout_secs replicas labels.include"),
    *words("feature.preview", "labels.exclude idle.start_idle idle.sleep_after_secs config_mounts"),
    *words("feature.preview", "idle.wake_timeout_secs secret_mounts"),
    *words("agent", "dns.timeout dns.attempts metrics"),
]


known = cache(vocabulary)


def settled(folder: Path, **values: Any) -> Settings:
    """By dotted keys."""
    file: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(".")
        inner = file
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = value
    (folder / "mirrord.json").write_text(json.dumps(file))
    return resolve(str(folder / "mirrord.json"), {}, {}, known())


@pytest.mark.parametrize("key", list(SERVED))
def test_a_key_that_is_served_changes_something(tmp_path: Path, key: str) -> None:
    """More than that a warning is given."""
    beside = {"key": "one", **({f"{DELIVERY}.protocol": "tls"} if key.startswith(f"{DELIVERY}.") else {})}
    plain, changed = settled(tmp_path, **beside), settled(tmp_path, **{**beside, key: SERVED[key]})
    assert evolve(changed, warnings=()) != evolve(plain, warnings=())


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_a_key_without_effect_is_said_to_have_none(tmp_path: Path, key: str) -> None:
    (said,) = settled(tmp_path, **{key: 60 if key.endswith("communication_timeout") else True}).warnings
    place = said.partition(" has no effect: ")[0]
    assert key == place or key.startswith(f"{place}.")


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_is_not_served_is_refused_by_its_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settled(tmp_path, **{key: "x"})
    assert key == caught.value.place or key.startswith(f"{caught.value.place}.")
    assert "not in this version" in caught.value.message or "paid operator" in caught.value.message
