"""The pod's files, written from here: as whom, what is left of it, and a log that rotates while it is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, need, own_namespace
from tests.cluster.hosted import BUSYBOX, Context, Json, hosted, pod, service

pytestmark = pytest.mark.cluster

LINES = 400
LOG = "/var/audit-logs/audit.log"
WRITER = f"""
while [ ! -e {LOG}.tailed ]; do usleep 20000; done
rm {LOG}.tailed
i=0
while [ $i -lt {LINES} ]; do echo "{{\\"line\\": $i}}" >> {LOG}; i=$((i + 1)); usleep 5000; done
echo '{{"line": "last"}}' >> {LOG}
"""


def writer(user: int) -> Json:
    """A pod of that user, with a folder of its own. 0: root."""
    context = {"runAsUser": user, "runAsGroup": user, "fsGroup": user} if user else {}
    main = {
        "name": "main",
        "image": BUSYBOX,
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return pod(
        "web",
        main,
        securityContext=context,
        volumes=[{"name": "data", "emptyDir": {}}],
    )


@pytest.fixture(params=["job-root", "job-user", "ephemeral-root", "ephemeral-user"])
def there(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Context]:
    form, _, who = request.param.partition("-")
    with own_namespace(cluster, f"files-{uuid.uuid4().hex[:8]}", restricted=False) as name:
        made = Context(cluster, name, ephemeral=form == "ephemeral")
        made.apply(writer(0 if who == "root" else 1234))
        yield made


SCRIPT = """
set -e
umask 027
echo one > /data/file
echo two >> /data/file
mkdir -m 750 /data/folder
mv /data/file /data/folder/moved
ln -s moved /data/folder/link
ln /data/folder/moved /data/folder/more
chmod 604 /data/folder/moved
truncate -s 6 /data/folder/link
cat /data/folder/more
rm /data/folder/more
"""


def test_what_is_made_is_the_pods_users(there: Context) -> None:
    said = there.exec("bash", "-c", SCRIPT, network=False, fs={"mode": "write"})
    assert said == "one\ntw"
    stat = there.in_pod("stat", "-c", "%n %u:%g %a %s %F %h", "/data/folder", "/data/folder/moved")
    who = there.in_pod("sh", "-c", "echo $(id -u):$(id -g)").strip()
    folder, moved = stat.splitlines()
    assert folder.split(" ", 3)[:3] == ["/data/folder", who, "750"] or folder.split()[2] == "2750"
    assert moved == f"/data/folder/moved {who} 604 6 regular file 1"
    assert there.in_pod("sh", "-c", "cat /data/folder/link; ls /data/folder") == "one\ntwlink\nmoved\n"


def audited() -> Json:
    """Two containers that share a folder."""
    shared = {"name": "logs", "mountPath": "/var/audit-logs"}
    environ = {"LOG": LOG, "STORE": "http://store:8080/"}
    idle = {"image": BUSYBOX, "command": ["sleep", "infinity"], "volumeMounts": [shared]}
    dummy = {"name": "dummy", "env": [{"name": n, "value": v} for n, v in environ.items()], **idle}
    return pod("test", {"name": "app", **idle}, dummy, volumes=[{"name": "logs", "emptyDir": {}}])


@pytest.mark.parametrize("form", ["job", "ephemeral"])
def test_a_log_is_tailed_rotated_and_uploaded_while_it_is_written(
    cluster: Any, form: str, tmp_path: Path
) -> None:
    need("go")
    program = tmp_path / "app"
    shutil.copytree(PROBES / "audit", program)
    serve = (sys.executable, str(PROBES / "store.py"), "8080", "/srv/lines")
    with own_namespace(cluster, f"audit-{uuid.uuid4().hex[:8]}", restricted=False) as name:
        made = Context(cluster, name, ephemeral=form == "ephemeral", target="pod/test/container/dummy")
        made.apply(
            audited(), pod("store", hosted("main", *serve, port=8080)), service("store", 8080, "store")
        )
        words = ["kubectl", "exec", "-n", name, "test", "-c", "app", "--", "sh", "-c", WRITER]
        app = subprocess.Popen(words, env={**os.environ, **cluster.variables})
        try:
            rotations = made.exec(
                *("go", "run", "main.go"),
                network={"outgoing": True, "incoming": False},
                fs={"mode": "write", "read_write": [LOG]},
                folder=program,
            )
            assert app.wait(60) == 0
        finally:
            app.kill()
            app.wait()
        stored = made.in_pod("cat", "/machine/srv/lines", pod="store")
        left = made.in_pod("ls", "/var/audit-logs", pod="test", container="app")
    assert int(rotations) > 3
    assert [json.loads(line)["line"] for line in stored.splitlines()] == [*range(LINES), "last"]
    assert left == ""
