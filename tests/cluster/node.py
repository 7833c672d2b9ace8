"""One node: containerd, kubelet and kube-proxy in namespaces of their own, and the files they read.

Nothing a node mounts, routes, filters or sets in the kernel is seen on the machine that runs the tests.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from images import load
from place import (
    BIN,
    CABLES,
    DIR,
    DNS_IP,
    HOST_IP,
    NAME,
    PKI,
    PODS,
    PODS6,
    api_ready,
    node_ip,
    node_ip6,
    pods,
    reap,
    run,
    spawn,
    until,
)

KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
MASQUERADE = f"""
add table ip kubetest
add chain ip kubetest postrouting {{ type nat hook postrouting priority 110 ; }}
add rule ip kubetest postrouting ip saddr {PODS} ip daddr != {PODS} masquerade
"""
# Looking for another owner of an IPv6 address, where there can be none, would take two seconds of a pod's start.
NETWORK = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0"}
NO_DAD = {"type": "tuning", "sysctl": {"net.ipv6.conf.default.accept_dad": "0"}}
SPARE = {  # of every node but the first: nothing comes there unasked, and two pods fill it
    "maxPods": 2,
    "registerWithTaints": [{"key": "kubetest/spare", "effect": "NoSchedule"}],
}
NO_EVICTION = {
    f"{place}.{what}": "0%"
    for place, what in (
        ("memory", "available"),
        ("nodefs", "available"),
        ("nodefs", "inodesFree"),
        ("imagefs", "available"),
        ("imagefs", "inodesFree"),
    )
}


def node(i: int, nodes: int) -> None:
    """PID 1 of a node, in the node's own namespaces: never returns."""
    name, d, kube = f"node{i}", DIR / f"node{i}", BIN / "kube"
    run("hostname", name)
    mounts(d)
    network(i, nodes)
    spawn(f"{name}-containerd", "containerd", "-c", d / "containerd.toml")
    until("containerd's socket is there", (d / "containerd.sock").exists)
    for archive in sorted((DIR / "images").glob("*.tar")):
        load(name, archive)
    until("the API server is ready", api_ready)
    words = [f"--config={d}/kubelet.json", f"--kubeconfig={DIR}/{name}.kubeconfig"]
    words += [f"--node-ip={node_ip(i)},{node_ip6(i)}", f"--hostname-override={name}"]
    spawn(f"{name}-kubelet", kube, "kubelet", *words)
    spawn(f"{name}-proxy", kube, "proxy", f"--config={d}/proxy.json", f"--hostname-override={name}")
    reap()


def mounts(d: Path) -> None:
    """A node's own /run, /var/lib and /var/log; and kernel settings that look as the kubelet wants them.

    The kubelet would change the machine's settings: it is shown files that say what it would write.
    """
    (d / "lib").mkdir()
    for target in ("/run", "/var/log"):
        run("mount", "-t", "tmpfs", "tmpfs", target)
    run("mount", "--bind", d / "lib", "/var/lib")
    run("mount", "--bind", d / "resolv.conf", "/etc/resolv.conf")
    (d / "sysctl").mkdir()
    for key, value in KERNEL.items():
        shown = d / "sysctl" / key.replace("/", ".")
        shown.write_text(value + "\n")
        run("mount", "--bind", shown, f"/proc/sys/{key}")
    run("mount", "--make-rshared", "/")


def network(i: int, nodes: int) -> None:
    """eth0, which the machine moves in when asked; routes to the other nodes' pods; masquerades the rest."""
    with socket.socket(socket.AF_UNIX) as cable:
        cable.settimeout(30)
        cable.connect(str(CABLES))
        cable.sendall(str(i).encode())
        if cable.recv(1) != b"+":
            raise SystemExit("the machine gave this node no network")
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", f"{node_ip(i)}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "addr", "add", f"{node_ip6(i)}/64", "dev", "eth0", "nodad")
    run("ip", "route", "add", "default", "via", HOST_IP)
    for other in range(1, nodes + 1):
        if other != i:
            for network, way in zip(pods(other), (node_ip(other), node_ip6(other)), strict=True):
                run("ip", "route", "add", network, "via", way)
    for setting, value in NETWORK.items():
        Path("/proc/sys/net", setting).write_text(value)
    run("nft", "-f", "-", given=MASQUERADE)


def node_files(i: int) -> None:
    name, d = f"node{i}", DIR / f"node{i}"
    (d / "cni").mkdir(parents=True)
    (d / "resolv.conf").write_text(f"nameserver {HOST_IP}\n")
    (d / "containerd.toml").write_text(containerd(d))
    cable = {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": addresses(i)}
    # `tuning` wants a plug-in before it; what it sets holds for the cable that `ptp` makes after it.
    plugins = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "loopback"}, NO_DAD, cable]}
    (d / "cni/10-ptp.conflist").write_text(json.dumps(plugins))
    spare = SPARE if i > 1 else {}
    (d / "kubelet.json").write_text(json.dumps({**kubelet(name, d), **spare}, indent=1))
    (d / "proxy.json").write_text(json.dumps(proxy(), indent=1))


def addresses(i: int) -> dict[str, Any]:
    ranges = [[{"subnet": subnet}] for subnet in pods(i)]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    return {"type": "host-local", "dataDir": "/var/lib/cni/ipam", "routes": routes, "ranges": ranges}


def containerd(d: Path) -> str:
    return f"""version = 2
[grpc]
  address = "{d}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE no score may be lowered
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{d}/cni"
"""


def kubelet(name: str, d: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/{name}.crt",
        "tlsPrivateKeyFile": f"{PKI}/{name}.key",
        "containerRuntimeEndpoint": f"unix://{d}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}/{name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "makeIPTablesUtilChains": False,
        "imageGCHighThresholdPercent": 100,  # a full disk must not delete images that nothing can pull again
        "evictionHard": NO_EVICTION,
        "registerNode": True,
        "maxPods": 200,
        "serializeImagePulls": False,
        "enableDebuggingHandlers": True,
    }


def proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{DIR}/proxy.kubeconfig"},
        "clusterCIDR": f"{PODS},{PODS6}",
        "detectLocalMode": "ClusterCIDR",
        "conntrack": {"maxPerCore": 0, "min": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
