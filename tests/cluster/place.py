"""Where the test cluster is and what it is called: addresses, folders, one way to run a program.

KUBE_BIN: its programs (default: a folder of the user's cache named by the sources' hash).
KUBE_DIR: its state (default: kubetest in the temporary folder); short, as sockets lie in it, and not
under /run, /var/lib or /var/log, which a node covers.
"""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ["main.go", "go.mod", "go.sum", "pause/pause.c"]
VERSION = "1.34.4"
NAME = "kubetest"  # the bridge's and the cgroup's name
HOST_IP = "10.42.0.1"
PORT = 6443
SERVER = f"https://{HOST_IP}:{PORT}"
ETCD = "http://127.0.0.1:23790"
ETCD_PEER = "http://127.0.0.1:23800"
SERVICES, SERVICES6 = "10.96.0.0/16", "fd00:96::/112"
KUBERNETES_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
PODS, PODS6 = "10.244.0.0/16", "fd00:244::/32"
CGROUPS = Path("/sys/fs/cgroup")
T0 = time.monotonic()


def default_bin() -> Path:
    digest = hashlib.sha256(VERSION.encode())
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kubetest" / digest.hexdigest()[:12]


BIN = Path(os.environ.get("KUBE_BIN") or default_bin())
DIR = Path(os.environ.get("KUBE_DIR") or Path(tempfile.gettempdir()) / "kubetest")
PKI = DIR / "pki"
CABLES = DIR / "cables.sock"  # where a node asks for its network


def say(*words: object) -> None:
    print(f"{time.monotonic() - T0:6.2f}s", *words, flush=True)


def node_ip(i: int) -> str:
    return f"10.42.0.{10 + i}"


def node_ip6(i: int) -> str:
    return f"fd00:42::{10 + i}"


def pods(i: int) -> tuple[str, str]:
    """A node's share of the pods' addresses."""
    return f"10.244.{i}.0/24", f"fd00:244:{i}::/64"


def run(*command: str | Path, given: str | None = None, quiet: bool = False) -> str:
    """Runs a program to its end; returns its output; raises with its words when it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, input=given, text=True, capture_output=True, check=False)
    if done.returncode and not quiet:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def spawn(log: str, *command: str | Path, session: bool = False) -> subprocess.Popen[bytes]:
    """Starts a program that writes to a log of this name; session: not ended with the one that started it."""
    words = [str(part) for part in command]
    with open(DIR / "log" / f"{log}.log", "ab") as out:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=session
        )


def unshared(log: str, verb: str, *words: str, net: bool = False) -> subprocess.Popen[bytes]:
    """Starts `cluster.py VERB` as PID 1 of namespaces of its own, which end with it."""
    flags = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    flags += ["--net", "--uts", "--ipc"] if net else []
    return spawn(log, "unshare", *flags, sys.executable, HERE / "cluster.py", verb, *words, session=True)


def reap() -> None:
    """PID 1's work: collect every child; end when SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


def until(what: str, condition: Callable[[], bool], limit: float = 60.0) -> None:
    """Waits for what gives no event of its own: asks again, for limit seconds at most."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {limit:.0f} s; see {DIR}/log")
        time.sleep(0.02)


def api_ready() -> bool:
    context = ssl.create_default_context(cafile=PKI / "ca.crt")
    context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
    try:
        with urllib.request.urlopen(f"{SERVER}/readyz", context=context, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
