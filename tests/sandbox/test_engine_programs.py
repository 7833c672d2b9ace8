"""The engine under real programs: static and dynamic, many runtimes, every caught call both ways."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tools import tool

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
TEXT = "hello from the target\n"
LIMIT = 100


@pytest.fixture
def demo(tmp_path):
    folder = tmp_path / "root" / "remote-demo"
    (folder / "many").mkdir(parents=True)
    (folder / "file").write_text(TEXT)
    os.utime(folder / "file", ns=(1_000_000_007, 1_234_567_890_123_456_789))
    (folder / "link").symlink_to("/remote-demo/file")
    return folder


class Run:
    def __init__(self, done, report):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.counters = report.get("counters", {})
        self.asked = report.get("asked", [])


@pytest.fixture
def under(demo, tmp_path):
    """Run a program under the engine, in a process of its own."""

    def run(*program, options=(), **more):
        report = tmp_path / "report.json"
        harness = [sys.executable, PROGRAMS / "under_engine.py", tmp_path / "root", report, *options, "--"]
        done = subprocess.run(
            [*harness, *program], capture_output=True, text=True, timeout=LIMIT, check=False, **more
        )
        return Run(done, json.loads(report.read_text()) if report.exists() else {})

    return run


def compiled(tmp_path, compiler, source):
    made = tmp_path / Path(source).stem
    subprocess.run([tool(compiler), "-O1", "-static", "-o", made, PROGRAMS / source], check=True)
    return made


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_every_call_of_a_static_binary(under, tmp_path, compiler):
    program = compiled(tmp_path, compiler, "calls.c")
    run = under(program, "/remote-demo/file", "/remote-demo/link")
    size = f"{len(TEXT)} bytes, 123456789 ns"
    expected = [
        *(f"{call}: {TEXT.strip()}" for call in ("openat", "openat2", "open")),
        *(f"{call}: {size}" for call in ("stat", "newfstatat", "statx")),
        *(f"{call}, may be empty: {size}" for call in ("newfstatat", "statx")),
        *(f"{call}: 0" for call in ("access", "faccessat", "faccessat2", "statfs")),
        "faccessat2, may be empty: 0",
        "newfstatat of the folder: folder",
        "lstat: link",
        "readlinkat: /remote-demo/file",
        "short readlinkat: /re",
        "readlinkat of no link: errno 22",
        "uname: pod-host",
    ]
    assert set(expected) - set(filter(None, run.out.splitlines())) == set(), run.err


@pytest.mark.parametrize("compiler", ["gcc"])
def test_every_call_bypassed(under, tmp_path, compiler):
    """The same program on local paths says the same as without the engine, but for the host name."""
    program = compiled(tmp_path, compiler, "calls.c")
    (tmp_path / "here").write_text("local\n")
    (tmp_path / "there").symlink_to("here")
    words = [program, tmp_path / "here", tmp_path / "there"]
    native = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    run = under(*words)
    assert run.out.replace("pod-host", os.uname().nodename) == native


def test_memory_is_written_only_to_the_process_that_was_opened(tmp_path):
    source, parts = PROGRAMS / "memory.c", PROGRAMS.parents[2] / "layer" / "engines" / "seccomp"
    command = [
        tool("gcc"),
        "-D_GNU_SOURCE",
        f"-I{parts}",
        "-o",
        tmp_path / "memory",
        source,
        parts / "memory.c",
    ]
    subprocess.run(command, check=True)
    done = subprocess.run(tmp_path / "memory", capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout.splitlines() == [
        f"ended: {-errno.EFAULT}",
        f"open of an ended one: {-errno.ENOENT}",
        f"the old one's: {-errno.EFAULT}",
        f"nowhere: {-errno.EFAULT}",
        f"beyond: {-errno.EFAULT}",
        "alive: 0",
        'it saw: 1, ours is still "before"',
    ]


def test_an_answer_that_has_no_place_is_a_fault(under):
    run = python(
        under,
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for call in (libc.stat, libc.statfs): print(call(b'/remote-demo/file', None), ctypes.get_errno())",
    )
    assert run.out == f"-1 {errno.EFAULT}\n" * 2, run.err


def test_static_go_with_its_preemption_signals(under, tmp_path):
    program = tmp_path / "files"
    subprocess.run(
        [tool("go"), "build", "-o", program, PROGRAMS / "files.go"],
        env={**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"},
        check=True,
    )
    run = under(program, "/remote-demo/file", "/remote-demo")
    assert run.out == f"{TEXT}{len(TEXT)} 3 pod-host\n", run.err


def test_go_run(under):
    environ = {**os.environ, "GO111MODULE": "off"}
    run = under(tool("go"), "run", PROGRAMS / "files.go", "/remote-demo/file", "/remote-demo", env=environ)
    assert run.out == f"{TEXT}{len(TEXT)} 3 pod-host\n", run.err


def test_node(under):
    script = (
        "const fs=require('fs');process.stdout.write(fs.readFileSync('/remote-demo/file','utf8')+"
        "fs.statSync('/remote-demo/file').size+' '+fs.readdirSync('/remote-demo').length+' '"
        "+require('os').hostname()+'\\n')"
    )
    run = under(tool("node"), "-e", script)
    assert run.out == f"{TEXT}{len(TEXT)} 3 pod-host\n", run.err


def test_java(under):
    run = under(tool("java"), PROGRAMS / "Files.java", "/remote-demo/file", "/remote-demo")
    assert run.out == f"{TEXT}{len(TEXT)} 3 pod-host\n", run.err


def test_python_starts_from_local_files_and_reads_the_trees(under):
    script = (
        "import os,json,asyncio;print(open('/remote-demo/file').read(),os.listdir('/remote-demo').__len__())"
    )
    run = under(sys.executable, "-c", script)
    assert run.out == f"{TEXT} 3\n", run.err


def test_bash_pipeline(under):
    run = under(
        "bash",
        "-c",
        "cat /remote-demo/file | tr a-z A-Z; test -e /remote-demo/gone || < /remote-demo/file wc -l",
    )
    assert run.out == f"{TEXT.upper()}1\n", run.err


def test_ls_shows_links_and_the_way_up(under):
    run = under("ls", "-la", "/remote-demo")
    assert run.status == 0 and "link -> /remote-demo/file" in run.out, run.err


def python(under, script, *options):
    return under(sys.executable, "-c", script, options=options)


def test_a_thousand_files_by_eight_threads(under, demo):
    for number in range(1000):
        (demo / "many" / str(number)).write_text(str(number))
    run = python(
        under,
        "from concurrent.futures import ThreadPoolExecutor as P\n"
        "read=lambda n: int(open(f'/remote-demo/many/{n}').read())\n"
        "with P(8) as pool: print(sum(pool.map(read, range(1000))))",
    )
    assert run.out == f"{sum(range(1000))}\n", run.err


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("open('/remote-demo/gone')", "FileNotFoundError"),
        ("open('/remote-demo/nothing')", "FileNotFoundError"),
        ("open('/remote-demo/file/')", "NotADirectoryError"),
        ("open('/remote-demo/../remote-demo//./file')", "None"),
        ("os.stat('/remote-demo/..')", "None"),
        ("os.stat('/remote-demo/link', follow_symlinks=False)", "None"),
        ("os.readlink('/remote-demo/file')", "OSError"),
        ("os.listxattr('/remote-demo/file')", "None"),
        ("os.getxattr('/remote-demo/file', 'user.none')", "OSError"),
        ("os.open('/remote-demo/file', os.O_RDONLY | os.O_DIRECTORY)", "NotADirectoryError"),
        ("open('')", "FileNotFoundError"),
        ("open('/' + 'x' * 300)", "OSError"),
        ("open('/' + 'x/' * 3000)", "OSError"),
    ],
)
def test_errors_and_odd_paths(under, script, expected):
    run = python(
        under, f"import os\ntry: {script}; print(None)\nexcept OSError as e: print(type(e).__name__)"
    )
    assert run.out == f"{expected}\n", run.err


def test_inside_a_tree_the_program_sees_the_targets_names(under):
    run = python(
        under,
        "import os\n"
        "folder = os.open('/remote-demo/many', os.O_RDONLY); os.fchdir(folder)\n"
        "print(os.getcwd(), os.path.realpath('.'), os.readlink('/proc/self/cwd'))\n"
        "print(os.readlink(f'/proc/self/fd/{folder}'), os.readlink(f'/proc/{os.getpid()}/fd/{folder}'))\n"
        "print(os.readlink('../link'), os.readlink('link', dir_fd=os.open('/remote-demo', os.O_PATH)))\n"
        "print(open('../file').read())\n",
    )
    many, file = "/remote-demo/many", "/remote-demo/file"
    assert run.out == f"{many} {many} {many}\n{many} {many}\n{file} {file}\n{TEXT}\n", run.err


def test_proc_self_stays_the_programs_own(under):
    run = python(
        under,
        "import os\n"
        "print(int(os.readlink('/proc/self')) == os.getpid(), open('/proc/self/stat').read() > '')",
    )
    assert run.out == "True True\n", run.err


def test_what_is_kept_is_not_asked_again(under):
    run = python(
        under,
        "import os\nfor _ in range(100): os.stat('/remote-demo/file'); open('/remote-demo/file').close()",
    )
    demo = [question for question in run.asked if question[1].startswith("/remote-demo")]
    assert demo == [["stat", "/remote-demo/file", "read"], ["open", "/remote-demo/file", "read"]]
    assert run.counters["carried"] >= 200


def test_a_known_tree_is_never_asked(under):
    run = under("cat", "/etc/hostname", options=("--known", "/"))
    assert run.asked == [] and run.counters["local"] > 0


def test_what_asks_about_a_descriptor_is_not_caught(under):
    run = python(
        under,
        "import ctypes\n"
        "libc, got, empty_path = ctypes.CDLL(None), ctypes.create_string_buffer(256), 0x1000\n"
        "print({libc.statx(0, b'', empty_path, 0, got) for _ in range(5000)})",
    )
    assert run.out == "{0}\n" and run.counters["received"] < 5000, run.err


def test_writing_is_another_question(under):
    run = python(
        under, "import os\nos.open('/remote-demo/file', os.O_RDWR); os.access('/remote-demo/file', os.W_OK)"
    )
    demo = [question for question in run.asked if question[1].startswith("/remote-demo")]
    assert demo == [["open", "/remote-demo/file", "write"], ["access", "/remote-demo/file", "write"]]


def test_skipped_processes_are_left_alone(under):
    program = ("bash", "-c", "cat /remote-demo/file; test -e /remote-demo/file && echo shell sees it")
    assert under(*program).out == f"{TEXT}shell sees it\n"
    run = under(*program, options=("--skip", "cat"))
    assert run.out == "shell sees it\n" and "No such file" in run.err


def test_no_descriptor_leaks_into_the_program(under):
    run = python(under, "import os\nprint(sorted(os.listdir('/proc/self/fd')))")
    assert run.out == "['0', '1', '2', '3']\n"  # 3: listdir's own


def test_close_on_exec_is_as_asked(under):
    run = python(
        under,
        "import os\n"
        "import ctypes\n"
        "opened = [ctypes.CDLL(None).open(b'/remote-demo/file', flags) for flags in (0, os.O_CLOEXEC)]\n"
        "print([os.get_inheritable(number) for number in opened])",
    )
    assert run.out == "[True, False]\n"


def test_children_of_every_kind(under):
    run = python(
        under,
        "import os, subprocess\n"
        "cat = ['/bin/cat', '/remote-demo/file']\n"
        "print(subprocess.run(cat, capture_output=True).stdout)\n"
        "pid = os.posix_spawn(cat[0], cat, os.environ); os.waitpid(pid, 0)\n"
        "pid = os.fork() or os.execv('/bin/sh', ['sh', '-c', 'exec env cat /remote-demo/file'])\n"
        "print(os.waitpid(pid, 0)[1])\n",
    )
    assert run.out.count(TEXT.strip()) == 3 and run.out.endswith("0\n"), run.err


def test_descriptors_end_where_the_programs_limit_is(under):
    run = python(
        under,
        "import os, resource, errno\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
        "try:\n  while True: os.open('/remote-demo/file', 0)\n"
        "except OSError as e: print(errno.errorcode[e.errno])",
    )
    assert run.out == "EMFILE\n"


def test_without_any_capability(demo):
    """Nobody's user id, no capability: the engine needs none."""
    nobody = 65534
    drop = [
        tool("setpriv"),
        f"--reuid={nobody}",
        f"--regid={nobody}",
        "--clear-groups",
        "--bounding-set=-all",
    ]
    if subprocess.run([*drop, sys.executable, "-c", "import pymirror.core"], check=False).returncode:
        pytest.skip("this Python is not readable for other users")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(demo.parent, f"{folder}/root", symlinks=True)
        for path in (folder, f"{folder}/root/remote-demo/file"):
            os.chown(path, nobody, nobody)
        harness = [sys.executable, PROGRAMS / "under_engine.py", f"{folder}/root", f"{folder}/report", "--"]
        shell = ["sh", "-c", "cat /remote-demo/file; uname -n; grep CapEff /proc/self/status"]
        done = subprocess.run([*drop, *harness, *shell], capture_output=True, text=True, check=False)
    assert done.stdout == f"{TEXT}pod-host\nCapEff:\t0000000000000000\n", done.stderr
