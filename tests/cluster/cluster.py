"""A real Kubernetes cluster for tests: cluster.py build | start [--nodes N] | load IMAGE.tar |
image NAME PROGRAM... | stop | env.

Everything runs in one PID namespace (one kill ends it all); each node has network, mount and UTS namespaces
of its own. What the machine sees: one bridge, unreachable routes, a cgroup folder, the state folder.
"""

from __future__ import annotations

import argparse
import functools
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
from pathlib import Path

from binaries import build
from control import control_plane
from images import base_images, load, programs_image
from node import node, node_files
from pki import pki
from place import (
    BIN,
    CABLES,
    CGROUPS,
    DIR,
    HERE,
    HOST_IP,
    NAME,
    PODS,
    PODS6,
    SERVICES,
    SERVICES6,
    api_ready,
    run,
    say,
    unshared,
    until,
)

OUTSIDE = (PODS, PODS6, SERVICES, SERVICES6)


def start(nodes: int) -> None:
    build()
    if DIR.exists():
        stop()
    (DIR / "log").mkdir(parents=True)
    (DIR / "nodes").write_text(str(nodes))
    pki(nodes)
    base_images()
    for i in range(1, nodes + 1):
        node_files(i)
    say("certificates, images and files made")
    for folder in cgroup_folders("unified"):  # the kubelet makes that one itself
        for i in range(1, nodes + 1):
            (folder / f"node{i}").mkdir(parents=True, exist_ok=True)
    bridge()
    with socket.socket(socket.AF_UNIX) as cables:
        cables.bind(str(CABLES))
        cables.listen()
        cables.settimeout(30)
        first = unshared("init", "_control", str(nodes))
        (DIR / "pid").write_text(str(first.pid))
        for _ in range(nodes):
            connect(cables)
    say("namespaces made")
    until("the API server is ready", api_ready)
    say("API server ready")
    kubectl("apply", "-f", str(HERE / "dns.yaml"))
    names = [f"node/node{i}" for i in range(1, nodes + 1)]
    for name in (*names, "serviceaccount/default"):  # one by one: several that are missing are an error
        kubectl("wait", "--for=create", "--timeout=60s", name)
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", *names)
    say(f"{nodes} node(s) Ready")
    environment()


def kubectl(*words: str) -> None:
    run(BIN / "kube", "kubectl", "--kubeconfig", DIR / "admin.kubeconfig", *words)


def bridge() -> None:
    run("ip", "link", "add", NAME, "type", "bridge")
    run("ip", "addr", "add", f"{HOST_IP}/24", "dev", NAME)
    run("ip", "link", "set", NAME, "up")
    # The host is outside the cluster's network, as a developer's machine is: what is meant for
    # a pod or a service fails here at once, and never leaves by the host's default route.
    for network in OUTSIDE:  # without IPv6 here there is no way out to be closed
        run("ip", "route", "add", "unreachable", network, quiet=":" in network)


def connect(cables: socket.socket) -> None:
    """Waits for a node to ask; moves one end of a pair into its namespace, puts the other on the bridge."""
    asking, _ = cables.accept()
    with asking:
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        i = asking.recv(16).decode()
        (DIR / f"node{i}/pid").write_text(str(pid))
        end = f"{NAME}{i}"
        run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "set", end, "master", NAME, "up")
        asking.sendall(b"+")


def cgroup_folders(*without: str) -> list[Path]:
    """The cluster's folder in each controller of cgroup v1."""
    found = [c for c in CGROUPS.iterdir() if c.is_dir() and not c.is_symlink()]
    return [controller / NAME for controller in found if controller.name not in without]


def load_everywhere(archive: str | Path) -> None:
    for i in range(1, int((DIR / "nodes").read_text()) + 1):
        load(f"node{i}", archive)


def environment() -> None:
    print(f"export KUBECONFIG={DIR}/admin.kubeconfig KUBE_DIR={DIR} PATH={BIN}:$PATH")


def stop() -> None:
    """Ends the cluster and takes every trace of it away; what is gone already is not asked for again."""
    if (DIR / "pid").exists():
        end(int((DIR / "pid").read_text()))
    say("processes ended")
    for cable in Path("/sys/class/net").glob(f"{NAME}[0-9]*"):  # their namespaces go later than the processes
        run("ip", "link", "del", cable.name, quiet=True)
    run("ip", "link", "del", NAME, quiet=True)
    for network in OUTSIDE:
        run("ip", "route", "del", "unreachable", network, quiet=True)
    for top in cgroup_folders():
        until(f"{top} is empty", functools.partial(removed, top), limit=10)
    shutil.rmtree(DIR, ignore_errors=True)
    say("stopped")


def end(pid: int) -> None:
    """Kills PID 1 of the cluster's namespace, the only child of unshare: it ends after all the others."""
    try:
        if b"cluster.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return  # the cluster ended long ago, and its number was given to another process
        first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        ended = os.pidfd_open(first)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    os.kill(first, signal.SIGKILL)
    if not select.select([ended], [], [], 30)[0]:
        raise SystemExit(f"the cluster's first process, {first}, does not end")
    os.close(ended)


def removed(top: Path) -> bool:
    """Whether the cgroup is gone; a process that has just ended keeps its folder for a moment."""
    for path, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(path)
        except OSError:
            return False
    return not top.exists()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build")
    verbs.add_parser("start").add_argument("--nodes", type=int, default=1)
    verbs.add_parser("load").add_argument("archive")
    image = verbs.add_parser("image")
    image.add_argument("name")
    image.add_argument("programs", nargs="+", type=Path)
    verbs.add_parser("stop")
    verbs.add_parser("env")
    verbs.add_parser("_control").add_argument("nodes", type=int)
    own = verbs.add_parser("_node")
    own.add_argument("i", type=int)
    own.add_argument("nodes", type=int)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.verb == "build":
        build()
    elif asked.verb == "start":
        start(asked.nodes)
    elif asked.verb == "load":
        load_everywhere(asked.archive)
    elif asked.verb == "image":
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            programs_image(archive, asked.name, asked.programs)
            load_everywhere(archive)
    elif asked.verb == "stop":
        stop()
    elif asked.verb == "env":
        environment()
    elif asked.verb == "_control":
        control_plane(asked.nodes)
    else:
        node(asked.i, asked.nodes)


if __name__ == "__main__":
    main()
