"""`feature.magic` with a real program: the target's volumes below trees of this machine, and whose AWS it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from pymirror.runtimes.process.sandbox import ENVIRON, FILES, Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"


@frozen
class Ran:
    out: str
    notes: str


@pytest.fixture
async def target() -> AsyncIterator[int]:
    """Volumes as a pod has them: a ConfigMap's folder and a Secret's single file below /etc, an emptyDir on /tmp."""
    kept = {"/data/config/colour": b"the pod's\n", "/data/config/sub/deep": b"deep\n", "/data/key": b"key\n"}
    made = {"/etc/app/colour": b"covered\n", "/etc/one/key": b"covered\n", "/etc/one/other": b"not mounted\n"}
    environ = {**ENVIRON, "AWS_ROLE_ARN": "arn:pod"}
    async with Sandbox.start({**FILES, **kept, **made}, environ=environ) as sandbox:
        for source, place in (("/data/config", "/etc/app"), ("/data/key", "/etc/one/key")):
            inside(sandbox.pid, "mount", "--bind", source, place)
        inside(sandbox.pid, "mount", "-t", "tmpfs", "tmpfs", "/tmp")
        sandbox.write("/tmp/of-the-pod", b"")
        yield sandbox.pid


def inside(pid: int, *command: str) -> None:
    """Among the target's mounts, and below its root."""
    subprocess.run(["nsenter", "-t", str(pid), "-m", "-r", "-w", *command], check=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """Of a developer who has a profile."""
    with tempfile.TemporaryDirectory(prefix="pymirror-home-", dir="/srv") as name:
        (Path(name) / ".aws").mkdir()
        (Path(name) / ".aws/config").write_text("[profile mine]\n")
        yield Path(name)


def run(target: int, program: list[str], environ: dict[str, str] | None = None, **feature: Any) -> Ran:
    config = json.dumps({"feature": {"network": False, **feature}})
    words = ["exec", "-f", "-", "--progress", "simple", "-t", f"process/{target}", "--", *program]
    done = subprocess.run(
        [sys.executable, "-c", START, *words],
        input=config,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/tmp",
        env={**os.environ, **(environ or {})},
    )
    assert done.returncode == 0, done.stderr
    return Ran(done.stdout, done.stderr)


LOOK = "cat /etc/app/colour /etc/app/sub/deep /etc/one/key 2>/dev/null; ls -d /etc/app /etc/one/* 2>/dev/null; true"


def test_volumes_are_the_targets(target: int) -> None:
    ran = run(target, ["sh", "-c", LOOK], magic={"auto_mount": True})
    assert ran.out == "the pod's\ndeep\nkey\n/etc/app\n"
    assert "read from the target by feature.magic.auto_mount: /etc/app, /etc/one/key\n" in ran.notes


def test_without_it_they_are_this_machines_and_that_is_said(target: int) -> None:
    ran = run(target, ["sh", "-c", LOOK])
    assert ran.out == ""
    assert "read here by default: /etc/app, /etc/one/key (to read the target's: feature.magic" in ran.notes


def test_a_file_that_is_mounted_alone_is_read_alone(target: int) -> None:
    script = "cat /etc/one/key; cat /etc/one/other 2>/dev/null || echo none; cat /etc/hostname /etc/passwd"
    wanted = f"key\nnone\ndemo-pod\n{Path('/etc/passwd').read_text()}"
    assert run(target, ["sh", "-c", script], magic={"auto_mount": True}).out == wanted


def test_what_the_user_lists_comes_first(target: int) -> None:
    script = "cat /etc/app/colour; cat /etc/app/sub/deep 2>/dev/null || echo none"
    for fs in ({"local": "^/etc/app/sub(/|$)"}, {"not_found": "/deep$"}):
        assert run(target, ["sh", "-c", script], magic=True, fs=fs).out == "the pod's\nnone\n"
    ran = run(target, ["sh", "-c", LOOK], magic=True, fs={"local": "^/etc/(app|one)(/|$)"})
    assert ran.out == "" and "/etc/app" not in ran.notes


def test_the_temporary_folder_stays_the_programs(target: int, tmp_path: Path) -> None:
    """Also where the pod has a volume there, as those with a read-only root have."""
    script = "f=$(mktemp); echo mine > $f; cat $f; rm $f; ls /tmp/of-the-pod 2>/dev/null || echo none"
    ran = run(target, ["sh", "-c", script], magic=True)
    assert ran.out == "mine\nnone\n"
    assert (
        "read here by default: /tmp, /usr (to read the target's: feature.fs.read_only" in ran.notes
    )  # /usr: the sandbox has this machine's


AWS = """
import os
names = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_ROLE_ARN")
print([os.environ.get(name) for name in names], os.path.exists(os.path.expanduser("~/.aws/config")))
cache = os.path.expanduser("~/.aws/cli/cache")
os.makedirs(cache)
open(f"{cache}/x", "w").write("kept")
print(open(f"{cache}/x").read(), os.listdir(cache), oct(os.stat(os.path.expanduser("~/.aws")).st_mode & 0o777))
"""


def test_the_program_is_the_pod_to_aws(target: int, home: Path) -> None:
    environ = {"HOME": str(home), "AWS_PROFILE": "mine", "AWS_ACCESS_KEY_ID": "AK", "AWS_REGION": "here"}
    own = run(target, ["sh", "-c", "echo $AWS_PROFILE; cat ~/.aws/config"], environ)
    assert own.out == "mine\n[profile mine]\n"
    ran = run(target, [sys.executable, "-c", AWS], environ, magic={"aws": True})
    assert ran.out == "[None, None, 'here', 'arn:pod'] False\nkept ['x'] 0o700\n"
    assert "2 removed" in ran.notes and "~/.aws is an empty folder of this session" in ran.notes
    assert sorted(os.listdir(home / ".aws")) == ["config"]


SDK = """
import botocore.exceptions, botocore.session
try:
    print(botocore.session.get_session().get_credentials().method)
except botocore.exceptions.BotoCoreError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("mine", "found"),
    [
        ({"AWS_PROFILE": "mine"}, "assume-role"),
        ({"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}, "env"),
    ],
)
async def test_an_sdk_takes_the_pods_role(home: Path, mine: dict[str, str], found: str) -> None:
    (home / ".aws/credentials").write_text("[base]\naws_access_key_id = AK\naws_secret_access_key = SK\n")
    (home / ".aws/config").write_text(
        "[profile mine]\nrole_arn = arn:aws:iam::1:role/me\nsource_profile = base\n"
    )
    token = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"
    role = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/pod", "AWS_WEB_IDENTITY_TOKEN_FILE": token}
    environ = {"HOME": str(home), "AWS_DEFAULT_REGION": "eu-central-1", **mine}
    async with Sandbox.start({**FILES, token: b"token"}, environ={**ENVIRON, **role}) as sandbox:
        program = [sys.executable, "-c", SDK]
        asked = [run(sandbox.pid, program, environ, magic={"aws": on}).out for on in (False, True)]
    assert asked == [f"{found}\n", "assume-role-with-web-identity\n"]
