"""Programs in many languages reach what the pod itself reaches: by the same names, from the same addresses.

Servers say who they are and whom they saw; a probe adds what its own socket is called at both ends. What it must
say is worked out from the cluster, then seen in the pod, then asked of every language under `pymirror exec`.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.cluster.exec_pod import PROBES, RESTRICTED, Place, need, own_namespace

pytestmark = pytest.mark.cluster

IMAGE = "localhost/network:1"
KINDS = {"job": (), "restricted": ("-e",)}
SOCKET = "/shared/app.sock"
LOOPBACK = [
    "tcp=127.0.0.1:7002",
    "tcp=[::1]:7002",
    "udp=127.0.0.1:7002",
    "udp=[::1]:7002",
    "tcp=127.0.0.77:7003",
]
"""Where the target's side-car listens so that nobody but the target's pod can reach it."""
ALIASES = [{"ip": "127.0.0.77", "hostnames": ["alias.example"]}]
SERVICES_SETTLE = 30.0
"""Seconds until the name server and the node have heard of new services."""

NAMES = ["python", "node", "netgo", "netcgo", "rust", "java", "curl", "c"]
BUILDS = {
    "servers": ("env CGO_ENABLED=0 go build", "network_servers.go"),
    "netgo": ("env CGO_ENABLED=0 go build -tags netgo", "network.go"),
    "netcgo": ("env CGO_ENABLED=1 go build -tags netcgo", "network.go"),
    "rust": ("rustc", "network.rs"),
    "c": ("musl-gcc -static -O1", "network.c"),
}
LACKS = {"rust": {"https"}, "c": {"https"}, "curl": {"udp"}}
"""What a language's library has not."""


@pytest.fixture(scope="module")
def programs(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command of each probe. The pods' image has /servers, and the static Go probe as /netgo."""
    need("go", "gcc", "rustc", "musl-gcc", "node", "java", "javac", "curl")
    folder = tmp_path_factory.mktemp("network")
    for name, (compiler, source) in BUILDS.items():
        words = [*compiler.split(), "-o", str(folder / name), str(PROBES / source)]
        subprocess.run(words, check=True, timeout=100)
    subprocess.run(["javac", "-d", folder, PROBES / "Network.java"], check=True, timeout=100)
    cluster.image(IMAGE, folder / "servers", folder / "netgo")
    return {
        **{name: [str(folder / name)] for name in ("netgo", "netcgo", "rust", "c")},
        "python": [sys.executable, str(PROBES / "network.py")],
        "node": ["node", str(PROBES / "network.mjs")],
        "java": ["java", "-cp", str(folder), "Network"],
        "curl": ["bash", str(PROBES / "network.sh")],
    }


def pod(name: str, *containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    common = {"image": IMAGE, "securityContext": RESTRICTED, **shared}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{**common, **each} for each in containers],
        "volumes": [{"name": "shared", "emptyDir": {}}],
        **more,
    }
    labels = {"name": name, "role": "target" if name == "web" else "peer"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def peer(name: str) -> dict[str, Any]:
    return pod(name, servers(name, "tcp=:7001", "udp=:7001"), hostname=name, subdomain="peers")


def servers(name: str, *listen: str) -> dict[str, Any]:
    return {"name": name, "command": ["/servers", name, *listen]}


def service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    ports = [{"name": kind.lower(), "port": 7001, "protocol": kind} for kind in ("TCP", "UDP")]
    described = {"selector": selector, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": described}


def things() -> list[dict[str, Any]]:
    """The target `web` with its side-car; pods `one` and `two`; services of one, of both, of nobody."""
    sleeper = {"name": "main", "command": ["sleep", "infinity"]}
    both = {"ipFamilyPolicy": "RequireDualStack"}
    return [
        pod("web", sleeper, servers("side", *LOOPBACK, "tcp=:7004", f"unix={SOCKET}"), hostAliases=ALIASES),
        peer("one"),
        peer("two"),
        service("api", {"name": "one"}),
        service("api6", {"name": "one"}, **both),
        service("peers", {"role": "peer"}, clusterIP="None", **both),
        service("empty", {"name": "nobody"}),
        service("kubernetes", {}, type="ExternalName", externalName="kubernetes.default.svc.cluster.local"),
    ]


@frozen
class There:
    """What was laid out. addresses: of a pod or service, IPv4 first. api: the API server's, in the cluster."""

    place: Place
    addresses: dict[str, list[str]]
    api: str

    def table(self) -> dict[str, list[str]]:
        """Each word for the probe, and what it must say."""
        web, one, two = (self.addresses[name] for name in ("web", "one", "two"))
        (api,), api6 = self.addresses["api"], self.addresses["api6"]

        def met(server: str, peer: str, own: str = "") -> str:
            own = own or web[":" in peer]
            return f"{server} saw {own} from {own} to {peer}"

        domain = f"{self.place.namespace}.svc.cluster.local"
        names = ("api", f"api.{self.place.namespace}", f"api.{domain}", f"api.{domain}.", api)
        return {
            **{f"tcp,{name},7001": [met("one", api)] for name in names},
            **{f"udp,{name},7001": [f"one saw {web[0]}"] for name in (*names[:1], api)},
            f"tcp,{api6[1]},7001": [met("one", api6[1])],
            f"udp,{api6[1]},7001": [f"one saw {web[1]}"],
            "all,api6,7001": [met("one", address) for address in api6],
            "all,peers,7001": [met(*pair) for pair in zip(("one", "one", "two", "two"), one + two, strict=True)],
            **{f"tcp,{address},7001": [met("two", address)] for address in two},
            **{f"tcp,{at},7002": [met("side", at, at)] for at in ("127.0.0.1", "::1")},
            **{f"udp,{at},7002": [f"side saw {at}"] for at in ("127.0.0.1", "::1")},
            "all,localhost,7002": [met("side", at, at) for at in ("127.0.0.1", "::1")],
            "tcp,127.0.0.77,7003": [met("side", "127.0.0.77", "127.0.0.1")],
            "all,two.peers,7001": [met("two", address) for address in two],
            "tcp,alias.example,7003": [met("side", "127.0.0.77", "127.0.0.1")],
            "all,web,7004": [met("side", address) for address in web],
            f"unix,{SOCKET}": ["side saw @"],
            "tcp,kubernetes,443": [f"Client sent an HTTP request to an HTTPS server. from {web[0]} to {self.api}"],
            f"tcp,{one[0]},7099": ["refused"],
            "tcp,empty,7001": ["refused"],
            f"tcp,nobody.{domain}.,7001": ["unknown"],
        }  # fmt: skip


API = ("https,https://kubernetes/api", "https,https://kubernetes.default.svc.cluster.local/api")


def lines(said: str) -> list[str]:
    """In one order and one spelling: the JVM writes IPv6 addresses in full."""

    def short(found: re.Match[str]) -> str:
        return str(ipaddress.IPv6Address(found[0]))

    return sorted(re.sub(r"\b[0-9a-f]+(:[0-9a-f]+){7}\b", short, line) for line in said.splitlines())


def expected(table: dict[str, list[str]]) -> list[str]:
    return sorted(
        f"{word.split(',')[0]} {word.split(',')[1]}: {line}"
        for word, found in table.items()
        for line in found
    )


@pytest.fixture(scope="module", params=list(KINDS))
def there(cluster: Any, programs: dict[str, list[str]], request: pytest.FixtureRequest) -> Iterator[There]:
    with own_namespace(cluster, f"network-{request.param}", request.param == "restricted") as name:
        cluster.apply({"apiVersion": "v1", "kind": "List", "items": things()}, name)
        pods = ("pod/web", "pod/one", "pod/two")
        cluster.kubectl("wait", "-n", name, "--for=condition=Ready", *pods, "--timeout=50s")
        found = json.loads(cluster.kubectl("get", "pods,services", "-n", name, "-o", "json"))["items"]
        addresses = {
            item["metadata"]["name"]: item["spec"].get("clusterIPs")
            or [each["ip"] for each in item["status"].get("podIPs", ())]
            for item in found
        }
        api = cluster.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
        yield There(Place(cluster, name, KINDS[request.param]), addresses, api)


@pytest.fixture(scope="module")
def in_pod(there: There) -> list[str]:
    """What the probe says in the pod, once the cluster has told everybody of its services."""
    words, end = [*there.table(), *API], time.monotonic() + SERVICES_SETTLE
    wanted = expected(there.table())
    while True:
        found = lines(there.place.in_pod("/netgo", *words).decode())
        if set(wanted) <= set(found) or time.monotonic() > end:
            return found


@pytest.fixture(scope="module")
def here(
    there: There, programs: dict[str, list[str]], in_pod: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Where each program has said what it sees, all in one session: NAME.out, NAME.err and NAME.status."""
    folder = tmp_path_factory.mktemp("said")
    script = []
    for name, command in programs.items():
        words = [word for word in (*there.table(), *API) if word.split(",")[0] not in LACKS.get(name, ())]
        into = f">{folder}/{name}.out 2>{folder}/{name}.err; echo $? >{folder}/{name}.status"
        script.append(f"timeout 60 {shlex.join([*command, *words])} {into}")
    script.append(f"env -u KUBECONFIG kubectl auth whoami -o json >{folder}/kubectl.out")
    # A node says once a second that nobody is behind a service: the longest that a connect here has to wait.
    network = {"outgoing": {"unix_streams": ["^/shared/"], "nonblocking_wait": 5}}
    target = {"path": "pod/web/container/main", "namespace": there.place.namespace}
    agent = {"ephemeral": bool(there.place.flags)}
    config = {"target": target, "agent": agent, "feature": {"network": network}}
    (folder / "config.json").write_text(json.dumps(config))
    there.place.exec("bash", "-c", "\n".join(script), folder=PROBES, config=str(folder / "config.json"))
    return folder


def test_the_pod_says_what_it_must(there: There, in_pod: list[str]) -> None:
    answers = [line for line in in_pod if line.startswith("https ")]
    assert [line for line in in_pod if line not in answers] == expected(there.table())
    assert len(answers) == len(API) and all('"kind":"APIVersions"' in line for line in answers)


@pytest.mark.parametrize("name", NAMES)
def test_a_program_says_what_the_pod_says(in_pod: list[str], here: Path, name: str) -> None:
    lacks = LACKS.get(name, set())
    status, said, errors = ((here / f"{name}.{what}").read_text() for what in ("status", "out", "err"))
    assert lines(said) == [line for line in in_pod if line.split()[0] not in lacks], errors
    assert status == "0\n"


def test_a_connect_that_is_answered_too_late_is_refused_later(there: There, in_pod: list[str]) -> None:
    """With the wait as it is by default: nobody is behind `empty`, which a node says once a second, so that the
    connect is in progress until then. What is answered in time is beside it."""
    need("node")
    words = ("tcp,empty,7001", "tcp,api,7001")
    said = there.place.exec("node", str(PROBES / "network.mjs"), *words).decode()
    assert lines(said) == [line for line in in_pod if line.startswith(("tcp empty:", "tcp api:"))]


def test_kubectl_is_the_pods_service_account(there: There, here: Path) -> None:
    """Without a kubeconfig: the API server's address, the authority and the token are the pod's."""
    user = json.loads((here / "kubectl.out").read_text())["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{there.place.namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["web"]


def test_this_machine_reaches_none_of_it(there: There, programs: dict[str, list[str]]) -> None:
    """So what the tests above have seen went through the target. By address: no name server is asked here."""
    words = [word for word in there.table() if re.fullmatch(r"[0-9a-f.:]+|/.*", word.split(",")[1])]
    assert len(words) > 10
    said = subprocess.run(
        [*programs["netgo"], *words], text=True, capture_output=True, check=True, timeout=60
    )
    assert not set(lines(said.stdout)) & set(expected(there.table()))
