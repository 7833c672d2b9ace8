"""Paths of this machine that pymirror opens itself: with the program's rights, not with pymirror's own.

Each is reached in two ways: `..` out of the target's tree, and a mapping to a path of this machine.
"""

import json
import os
import platform
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
NOBODY = 65534
BECOME = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
SETRESUID = {"x86_64": 117, "aarch64": 147}.get(platform.machine())  # libc's sets all threads'
LIMIT = 100


@pytest.fixture
def public():
    """A folder of this machine that everybody may search."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.fixture(params=["climb", "mapping"])
def way(request, public):
    """The name under which the program reaches that folder."""
    return f"/remote-demo/..{public}" if request.param == "climb" else "/remote-mapped"


class Run:
    def __init__(self, done, report):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.asked = json.loads(report.read_text())["asked"]


def harnessed(folder, mapping, program, before=(), **more):
    report = folder / "report.json"
    harness = [sys.executable, PROGRAMS / "under_engine.py", folder / "root", report, "--mapping", mapping]
    command = [*before, *harness, "--", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, **more)
    return Run(done, report)


@pytest.fixture
def under(public, tmp_path):
    """Run a program under the engine, as root, in a process of its own."""
    (tmp_path / "root" / "remote-demo").mkdir(parents=True)
    return lambda *program, **more: harnessed(tmp_path, public, program, **more)


@pytest.fixture
def tries(under):
    """What a piece of Python says that runs under the engine: `None`, or the error's name."""

    def run(before, script):
        tried = f"import os\n{before}\ntry: print({script})\nexcept OSError as e: print(type(e).__name__)"
        run = under(sys.executable, "-c", tried)
        assert run.status == 0, run.err
        return run.out.strip()

    return run


def secret(public, mode=0o600, group=0):
    file = public / "secret"
    file.write_text("secret\n")
    os.chown(file, 0, group)
    file.chmod(mode)
    return file


def test_a_file_of_roots_alone_is_refused(tries, public, way):
    secret(public)
    assert tries(BECOME, f"open('{way}/secret').read()") == "PermissionError"
    assert tries("", f"open('{way}/secret').read().strip()") == "secret"


@pytest.mark.parametrize(("groups", "said"), [("[4242, 7]", "secret"), ("[7]", "PermissionError")])
def test_the_programs_groups_count(tries, public, way, groups, said):
    secret(public, 0o640, 4242)
    before = BECOME.replace("[]", groups)
    assert tries(before, f"open('{way}/secret').read().strip()") == said


@pytest.mark.parametrize(("become", "owner"), [(BECOME, NOBODY), ("", 0)])
def test_what_it_creates_is_its_own_and_by_its_umask(tries, public, way, become, owner):
    before = f"{become}\nos.umask(0o027)"
    for name, call in (("one", f"os.open('{way}/one', os.O_CREAT | os.O_WRONLY, 0o666) > 2"),
                       ("two", f"open('{way}/two', 'x').write('') == 0")):  # fmt: skip
        assert tries(before, call) == "True"
        made = (public / name).stat()
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (owner, owner, 0o640)


def test_an_ordinary_user_creates_by_the_programs_umask(public, way):
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
    if subprocess.run([*drop, sys.executable, "-c", "import pymirror.core"], check=False).returncode:
        pytest.skip("this Python is not readable for other users")
    (public / "root" / "remote-demo").mkdir(parents=True)
    run = harnessed(public, public, ["sh", "-c", f"umask 077; echo x > {way}/made"], before=drop)
    assert run.status == 0, run.err
    assert stat.S_IMODE((public / "made").stat().st_mode) == 0o600


def test_a_folder_it_may_not_search_shows_nothing(tries, public, way):
    folder = public / "closed"
    folder.mkdir(0o700)
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("file")
    for call in (
        f"os.stat('{way}/closed/file')",
        f"os.readlink('{way}/closed/link')",
        f"os.statvfs('{way}/closed/file')",
        f"os.listxattr('{way}/closed/file')",
    ):
        assert tries(BECOME, call) == "PermissionError"
    assert tries(BECOME, f"os.access('{way}/closed/file', os.F_OK)") == "False"


def test_attributes_are_read_with_its_rights(tries, public, way):
    os.setxattr(secret(public), "user.word", b"x")
    assert tries(BECOME, f"os.getxattr('{way}/secret', 'user.word')") == "PermissionError"
    assert tries("", f"os.getxattr('{way}/secret', 'user.word')") == "b'x'"


def test_access_goes_by_the_real_ids_unless_told_otherwise(tries, public, way):
    secret(public)
    before = f"os.setresuid({NOBODY}, 0, 0)"
    assert tries(before, f"os.access('{way}/secret', os.R_OK)") == "False"
    assert tries(before, f"os.access('{way}/secret', os.R_OK, effective_ids=True)") == "True"
    assert tries(before, f"open('{way}/secret').read().strip()") == "secret"


def test_a_capability_it_gave_up_does_not_help(under, public, way):
    os.chown(secret(public), NOBODY, NOBODY)
    assert under("cat", f"{way}/secret").out == "secret\n"
    run = under("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "cat", f"{way}/secret")
    assert run.status == 1 and "Permission denied" in run.err


def test_a_root_of_its_own_is_left_to_the_kernel(tries, public):
    inside = public / "root" / "remote-mapped"
    inside.mkdir(parents=True)
    (inside / "file").write_text("inside")
    (public / "file").write_text("outside")
    before = f"open('/remote-mapped/file').close(); os.chroot('{public}/root')"
    assert tries(before, "open('/remote-mapped/file').read()") == "inside"


def test_a_mount_namespace_of_its_own_is_left_to_the_kernel(under, public):
    secret(public)
    assert under("unshare", "--mount", "cat", "/remote-mapped/secret").err.endswith(
        "No such file or directory\n"
    )


def test_in_a_user_namespace_of_its_own_it_is_refused(under, public):
    secret(public, 0o644)
    assert under("unshare", "--user", "cat", "/remote-mapped/secret").err.endswith("Permission denied\n")


def test_a_link_leads_into_no_descriptor_of_pymirror(tries, public, way):
    (public / "link").symlink_to("/proc/self/fd/0")
    assert tries("", f"open('{way}/link')") == "OSError"


def test_a_mapping_does_not_make_this_machine_a_tree(under, public):
    """A relative link of this machine stays the kernel's, also after a mapping has been used."""
    (public / "file").write_text("x")
    (public / "link").symlink_to("file")
    run = under(
        sys.executable,
        "-c",
        "import os; os.stat('/remote-mapped/file'); print(os.readlink('link'), os.getcwd())",
        cwd=public,
    )
    assert run.out == f"file {public}\n", run.err
    assert [asked for asked in run.asked if asked[0] == "readlink" and str(public) in asked[1]] == []


def test_threads_with_different_rights_do_not_mix(under, public, way):
    """Only the calling thread's rights count, and pymirror's threads hold nobody's afterwards."""
    secret(public)
    script = (
        "import ctypes, os, threading\n"
        "libc = ctypes.CDLL(None)\n"
        "def tries():\n"
        f"  try: return open('{way}/secret').read()\n"
        "  except PermissionError: return ''\n"
        "seen = {True: set(), False: set()}\n"
        "def work(small):\n"
        f"  if small: libc.syscall({SETRESUID}, {NOBODY}, {NOBODY}, {NOBODY})\n"
        "  for _ in range(50): seen[small].add(tries())\n"
        "threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(6)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(seen[True] == {''}, seen[False] == {'secret\\n'})"
    )
    run = under(sys.executable, "-c", script)
    assert run.out == "True True\n", run.err
