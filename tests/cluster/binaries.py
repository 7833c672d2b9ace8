"""The cluster's programs, compiled once from Go modules: minutes, kept outside the checkout.

Every Kubernetes program, etcd and CoreDNS are one multi-call program (main.go says why).
"""

from __future__ import annotations

import os

from place import BIN, HERE, VERSION, run, say

STAMPED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def version_flags() -> str:
    """The linker's words without which the programs call themselves v0.0.0."""
    minor = VERSION.split(".")[1]
    facts = {
        "gitVersion": f"v{VERSION}",
        "gitMajor": "1",
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "module",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    return " ".join(f"-X {package}.{name}={text}" for package in STAMPED for name, text in facts.items())


def build() -> None:
    """Compiles what the cache does not hold; each program gets its name when it is whole."""
    if (BIN / "kube").exists() and (BIN / "pause").exists():
        return
    say("compiling the cluster's programs: minutes, once")
    BIN.mkdir(parents=True, exist_ok=True)
    run("gcc", "-Os", "-static", "-s", "-o", BIN / "pause", HERE / "pause/pause.c")
    os.environ.update(CGO_ENABLED="0", GOFLAGS="-trimpath -mod=readonly -buildvcs=false")
    linked = f"-s -w {version_flags()}"
    run("go", "build", "-C", HERE, "-ldflags", linked, "-o", BIN / "kube.new", ".")
    os.rename(BIN / "kube.new", BIN / "kube")
    (BIN / "kubectl").unlink(missing_ok=True)
    (BIN / "kubectl").symlink_to("kube")
    say("built", BIN / "kube", (BIN / "kube").stat().st_size)
