"""What of mirrord's vocabulary pymirror does not serve yet, never will, or does not need.

ABSENT   a key whose feature is not in this version: refused by name unless its value turns it off
PAID     a key of mirrord's paid operator: refused by name unless its value turns it off
IGNORED  a key with nothing to steer here: a warning says why
NEUTRAL  keys of these: the one value that changes nothing, where that is not "off"
SWITCHES flags of what is not served, or steers nothing; a feature that declares one takes it over
"""

from __future__ import annotations

from pymirror.core.flags import Declared, Flag


def _below(place: str, names: str, why: str) -> dict[str, str]:
    return {f"{place}.{name}": why for name in names.split()}


ABSENT = {
    "feature.network.ipv6": "leave it out: the program has sockets of both IP versions",
    "profile": "profiles are not read; put their settings into this file",
    **_below(
        "container",
        "cli_image cli_extra_args cli_prevent_cleanup cli_image_lib_path cli_tls_path override_host_ip "
        "host_gateway_detection platform",
        "running containers is not there; run the program itself",
    ),
    "agent.dns": "its timeout and attempts are keys of feature.network.dns",
    "agent.metrics": "the agent has no metrics listener",
}

NEUTRAL = {"feature.network.ipv6": True, "feature.network.incoming.on_concurrent_steal": "abort"}

PAID = {
    "operator": "pymirror has no operator; false is accepted",
    "multi_cluster": "several clusters at once",
    "feature.network.incoming.on_concurrent_steal": "shared stealing",
    **_below(
        "feature.copy_target",
        "enabled scale_down exclude_containers exclude_init_containers",
        "a copy of the target",
    ),
    "feature.split_queues": "queue splitting",
    "feature.db_branches": "database branches",
    "feature.preview": "preview environments",
}

_NO_PROXY = "there is no such helper process; pymirror exec itself stays the program's parent"

IGNORED = {
    "feature.magic.turbo": "loopback ports on which any process of the program listens are on this machine "
    "in any case",
    "api": "there is no session API",
    "telemetry": "nothing is ever sent",
    "skip_sip": "it is about macOS",
    "sip_binaries": "it is about macOS",
    "traceparent": "it is for requests to the operator",
    "baggage": "it is for requests to the operator",
    "ci.output_dir": "there is no background mode",
    "agent.external_ip_fix": "the application always sees the client's address, and the one it spoke to",
    "agent.nftables": "the agent's rules are nftables' in any case",
    "agent.clean_iptables_on_start": "the kernel removes an agent's rules with the agent",
    "agent.exclude_from_mesh": "the agent is reached by a port-forward, which no mesh redirects",
    "agent.override_cache_control": "answers reach clients as they are",
    "agent.jaq_time_limit": "the time of a filter is limited in any case",
    **_below(
        "internal_proxy",
        "start_idle_timeout idle_timeout socket_timeout ping_interval log_level log_destination json_log "
        "process_logging_interval",
        _NO_PROXY,
    ),
    **_below(
        "external_proxy",
        "tls_enable start_idle_timeout idle_timeout log_level log_destination json_log host_ip",
        _NO_PROXY,
    ),
    **_below(
        "experimental",
        "tcp_ping4_mock enable_exec_hooks_linux use_dev_null hide_ipv6_interfaces "
        "idle_local_http_connection_timeout guard_std_fds go_asmcgocall dlopen_cgo browser_extension_config "
        "disable_reuseaddr trust_any_certificate ignore_system_proxy_config applev sip_log_destination "
        "sip_utils non_blocking_tcp_connect latency",
        "these steer how mirrord hooks; calls are caught by the kernel here",
    ),
}

ABSENT_ENV = {
    "OPERATOR_ENABLE": "operator",
    "MULTI_CLUSTER": "multi_cluster",
    "OPERATOR_ON_CONCURRENT_STEAL": "feature.network.incoming.on_concurrent_steal",
    "PREVIEW_IMAGE": "feature.preview",
    "ENABLE_IPV6": "feature.network.ipv6",
}


def _switch(name: str, text: str, variables: str, help: str) -> Declared:
    return Declared(Flag((name,), text=text, help=help), tuple(variables.split()))


SWITCHES = (
    _switch("--no-remote-dns", "false", "REMOTE_DNS", "Resolve names here."),
    _switch("--no-outgoing", "false", "TCP_OUTGOING UDP_OUTGOING", "Leave outgoing traffic alone."),
    _switch("--no-tcp-outgoing", "false", "TCP_OUTGOING", "Leave outgoing TCP alone."),
    _switch("--no-udp-outgoing", "false", "UDP_OUTGOING", "Leave outgoing UDP alone."),
    _switch("--no-telemetry", "", "", "Accepted; nothing is ever sent."),
    _switch("--disable-version-check", "", "", "Accepted; no version is ever asked for."),
)
