"""Programs everybody has, unmodified, against real servers in the cluster that only the target's network reaches."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, need, own_namespace
from tests.cluster.hosted import Context, Json, hosted, pod, service

pytestmark = pytest.mark.cluster

PORTS = {"postgres": 5432, "redis": 6379, "git": 3000, "index": 8443, "calls": 50051}
KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()

POSTGRES = """
programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
echo secret > /srv/password
as="setpriv --reuid 65534 --regid 65534 --clear-groups"
$as "$programs/initdb" -D /srv/postgres -U app -A scram-sha-256 --pwfile /srv/password --no-sync
echo 'host all all all scram-sha-256' >> /srv/postgres/pg_hba.conf
install -o 65534 -m 600 /mnt/server.crt /mnt/server.key /srv
tls="-c ssl=on -c ssl_cert_file=/srv/server.crt -c ssl_key_file=/srv/server.key"
exec $as "$programs/postgres" -D /srv/postgres -k /srv/postgres -h 0.0.0.0 -F $tls
"""
REPOSITORY = """
git init -q -b main /srv/work; cd /srv/work
git config user.name A; git config user.email a@example.com
head -c 3000000 /dev/urandom > large; echo first > small; git add .; git commit -q -m first
git checkout -q -b other; echo second > small; git commit -q -a -m second; git checkout -q main
git clone -q --bare /srv/work /srv/git/app.git
mkdir -p /srv/www/cgi-bin
printf '#!/bin/sh\\nGIT_PROJECT_ROOT=/srv/git GIT_HTTP_EXPORT_ALL=1 exec git http-backend\\n' > /srv/www/cgi-bin/git
chmod 755 /srv/www/cgi-bin/git
exec busybox httpd -f -p 3000 -h /srv/www
"""
INDEX = f"""
mkdir -p /srv/index/simple/demo; cp /mnt/demo-1.0-py3-none-any.whl /srv/index/simple/demo/
cd /srv/index; exec {sys.executable} {PROBES}/index.py 8443 /mnt/server.crt /mnt/server.key
"""


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-euc", script)


def authority(folder: Path) -> None:
    """ca.crt, and server.crt with server.key signed by it, for the names of two Services."""
    ca = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=an authority of the cluster's own"]
    mine = [
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
        "-subj",
        "/CN=servers",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
    ]
    limits = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "subjectAltName=DNS:index,DNS:postgres",
    ]
    for words in (ca, mine + limits):
        made = ["openssl", "req", "-x509", *KEY, *words]
        subprocess.run(made, cwd=folder, check=True, capture_output=True, timeout=20)


def wheel() -> bytes:
    """demo 1.0: the least that an index serves. What a Secret holds is bounded, and doubled by `kubectl apply`."""
    out, about = io.BytesIO(), "demo-1.0.dist-info"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("demo.py", f"data = {os.urandom(50_000).hex()!r}\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return out.getvalue()


WHEEL = wheel()


def secret(name: str, files: dict[str, bytes]) -> Json:
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def servers() -> Json:
    programs = {
        "postgres": shell(POSTGRES),
        "redis": ("redis-server", "--save", "", "--protected-mode", "no", "--dir", "/srv"),
        "git": shell(REPOSITORY),
        "index": shell(INDEX),
        "calls": (sys.executable, str(PROBES / "grpc_server.py"), str(PORTS["calls"])),
    }
    made = [hosted(name, *command, port=PORTS[name]) for name, command in programs.items()]
    return pod("servers", *made, given="served")


def target() -> Json:
    """Where the index is, and whom to trust, only the pod knows: its environment and a file of its own say it."""
    variables = {"PIP_INDEX_URL": "https://index:8443/simple", "PIP_CERT": "/trusted/ca.crt"}
    main = {
        "name": "main",
        "image": "localhost/busybox:1",
        "command": ["sleep", "infinity"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": [{"name": "trusted", "mountPath": "/trusted"}],
    }
    made = pod("web", main)
    made["spec"]["volumes"] = [{"name": "trusted", "secret": {"secretName": "trusted"}}]
    return made


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    need("git", "psql", "redis-server")
    folder = tmp_path_factory.mktemp("authority")
    authority(folder)
    served = {name: (folder / name).read_bytes() for name in ("server.crt", "server.key")}
    served["demo-1.0-py3-none-any.whl"] = WHEEL
    with own_namespace(cluster, f"services-{uuid.uuid4().hex[:8]}", restricted=False) as name:
        made = Context(cluster, name, ephemeral=True)
        made.apply(
            secret("served", served),
            secret("trusted", {"ca.crt": (folder / "ca.crt").read_bytes()}),
            *(service(name, port, "servers") for name, port in PORTS.items()),
            servers(),
            target(),
        )
        yield made


def test_git_clones(there: Context, tmp_path: Path) -> None:
    there.exec("git", "clone", "http://git:3000/cgi-bin/git/app.git", "app", folder=tmp_path)
    said = "cd /srv/work && git rev-parse main other && sha256sum large"
    expected = there.in_pod(
        "chroot", "/machine", "/bin/sh", "-c", said, pod="servers", container="git"
    ).split()
    refs = ["git", "-C", str(tmp_path / "app"), "rev-parse", "origin/main", "origin/other"]
    found = subprocess.run(refs, check=True, capture_output=True, text=True, timeout=20).stdout.split()
    large = (tmp_path / "app/large").read_bytes()
    assert [*found, hashlib.sha256(large).hexdigest()] == expected[:3]


def test_psql(there: Context) -> None:
    """Debian's psql is a script that looks for the right one here. Whom to trust lies in the pod."""
    asked = [
        "CREATE TABLE seen AS SELECT generate_series(1, 5000) AS n",
        "SELECT host(inet_client_addr()), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        "\\copy seen TO STDOUT",
    ]
    words = [word for one in asked for word in ("-c", one)]
    where = "host=postgres user=app password=secret dbname=postgres sslmode=verify-full sslrootcert=/trusted/ca.crt"
    address = there.cluster.kubectl(
        "get", "pod", "web", "-n", there.namespace, "-o", "jsonpath={.status.podIP}"
    )
    found = there.exec("psql", where, "-At", *words).split()
    assert found == ["SELECT", "5000", f"{address}|t", *map(str, range(1, 5001))]
    words = "psql -h /srv/postgres -U app postgres -At -c 'SELECT max(n) FROM seen'"
    inside = ("chroot", "/machine", "/usr/bin/env", "PGPASSWORD=secret", "sh", "-c", words)
    assert there.in_pod(*inside, pod="servers", container="postgres") == "5000\n"


def test_a_postgresql_driver(there: Context) -> None:
    found = there.exec(sys.executable, str(PROBES / "rows.py"), "postgres").splitlines()
    assert found == ["all of them", "(1000, 499500)", "numbers_pkey", "cancelled", "(5432, 1000000)", "True"]


def test_redis_cli(there: Context) -> None:
    script = """
    redis-cli -h redis SET greeting 'from here'
    for i in $(seq 2000); do echo "SET key:$i $i"; done | redis-cli -u redis://redis --pipe | tail -n 1
    redis-cli -h redis --raw EVAL 'return #redis.call("KEYS", "key:*")' 0
    redis-cli -h redis --raw BLPOP queue 30 &
    redis-cli -h redis RPUSH queue work > /dev/null
    wait
    redis-cli -h redis -p 1 PING 2>&1 || true
    """
    found = there.exec("sh", "-c", script).splitlines()
    refused = "Could not connect to Redis at redis:1: Connection refused"
    assert found == ["OK", "errors: 0, replies: 2000", "2000", "queue", "work", refused]
    inside = ("chroot", "/machine", "redis-cli", "--raw", "GET", "greeting")
    assert there.in_pod(*inside, pod="servers", container="redis") == "from here\n"


def test_pip_downloads_over_tls(there: Context, tmp_path: Path) -> None:
    """The index and its authority are named by the pod's environment, the certificate is in the pod's files."""
    there.exec(sys.executable, "-m", "pip", "download", "-q", "--no-cache-dir", "demo", folder=tmp_path)
    assert (tmp_path / "demo-1.0-py3-none-any.whl").read_bytes() == WHEEL


@pytest.mark.parametrize("resolver", ["ares", "native"])
def test_grpc(there: Context, resolver: str) -> None:
    """grpcio has a resolver of its own, which speaks to port 53 itself, and polls by itself."""
    client = (sys.executable, str(PROBES / "grpc_client.py"), f"calls:{PORTS['calls']}")
    found = there.exec("env", f"GRPC_DNS_RESOLVER={resolver}", *client).splitlines()
    answered = ["HELLO", "499500", "2000000", "ONE", "TWO", "THREE"]
    assert found == [*answered, "FAILED_PRECONDITION refused by the server", "UNAVAILABLE", "4950"]
