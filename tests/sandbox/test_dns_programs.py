"""Real resolvers under pymirror, beside the same program in the target's network with its files."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools import build, tool

from tests.sandbox.dns_pod import HOSTS, RESOLV, NamesPod, names_pod, other_machine
from tests.sandbox.pod_network import PROGRAMS

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

PYTHON = (sys.executable, PROGRAMS / "names.py")
NAMES = "v4only api www.example.com only.here demo-pod nothing broken api.demo.svc.cluster.local.".split()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with names_pod(tmp_path_factory.mktemp("names")) as made:
        yield made


async def build_go(folder: Path, cgo: str = "0", tags: str = "netgo") -> Path:
    if cgo == "1":
        tool("gcc")
    program = folder / "names"
    words = ("build", "-tags", tags, "-o", program, PROGRAMS / "names.go")
    await build("go", *words, CGO_ENABLED=cgo, GO111MODULE="off")
    return program


async def build_c(folder: Path, compiler: str) -> Path:
    program, options = folder / "names", ["-static"] if compiler == "musl-gcc" else []
    await build(compiler, "-O1", *options, "-o", program, PROGRAMS / "names.c")
    return program


async def same(there: NamesPod, *program: object) -> str:
    """What the program says under pymirror, which must be what it says beside the target."""
    mine, truth = await there.run(*program), await there.truth(*program)
    assert truth.status == 0, truth
    assert (mine.status, mine.out) == (0, truth.out), mine.err
    return mine.out


async def test_getaddrinfo(there: NamesPod) -> None:
    table = json.loads(await same(there, *PYTHON, "table"))
    assert table == {
        "v4only": ["10.77.0.2"],
        "api": ["10.77.0.1", "fd77::1"],
        "alias": ["10.77.0.1", "fd77::1"],
        "under_score": ["10.77.0.3"],
        "api.demo.svc.cluster.local.": ["10.77.0.1", "fd77::1"],
        "www.example.com": ["10.77.0.8"],
        "only.here": ["10.77.0.9"],
        "demo-pod": ["10.244.0.7"],
        "localhost": ["127.0.0.1", "::1"],
        "nothing": [-2],
        "mail": [-5],
        "broken": [-3],
    }


@pytest.mark.parametrize("case", ["older", "slow", "many", "library"])
async def test_python(there: NamesPod, case: str) -> None:
    await same(there, *PYTHON, case)


@pytest.mark.parametrize(("cgo", "tags"), [("0", "netgo"), ("1", "netcgo")])
async def test_go(there: NamesPod, tmp_path: Path, cgo: str, tags: str) -> None:
    program = await build_go(tmp_path, cgo, tags)
    assert json.loads(await same(there, program, *NAMES))["v4only"] == ["10.77.0.2"]


async def test_node(there: NamesPod) -> None:
    table = json.loads(await same(there, tool("node"), PROGRAMS / "names.mjs", *NAMES))
    assert table["v4only"] == ["10.77.0.2"] and table["A api.demo.svc.cluster.local."] == ["10.77.0.1"]


async def test_java(there: NamesPod) -> None:
    assert "v4only [10.77.0.2]" in await same(there, tool("java"), PROGRAMS / "Names.java", *NAMES)


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
async def test_c(there: NamesPod, tmp_path: Path, compiler: str) -> None:
    program = await build_c(tmp_path, compiler)
    assert "v4only 10.77.0.2" in await same(there, program, *NAMES)


async def test_busybox(there: NamesPod) -> None:
    """Its nslookup speaks to the name server itself, as dig does."""
    assert "10.77.0.2" in await same(there, tool("busybox"), "nslookup", "v4only.demo.svc.cluster.local")


async def test_files_are_the_targets_and_no_place_of_ours_is_seen(there: NamesPod) -> None:
    found, link, same_file, access, code = (await there.run(*PYTHON, "files")).json()
    assert found["/etc/resolv.conf"] == RESOLV and found["/etc/hosts"] == HOSTS
    assert (
        found["/etc/nsswitch.conf"].splitlines()[-1] == "hosts: files dns"
        and found["/etc/host.conf"] == "multi on\n"
    )
    assert (link, same_file, access, code) == ("/etc/resolv.conf", True, True, errno.EINVAL)


async def test_short_cuts_past_the_target_are_not_there(there: NamesPod) -> None:
    assert (await there.run(*PYTHON, "shortcuts")).json() == [errno.ENOENT] * 3


async def test_turned_off_nothing_is_the_targets(there: NamesPod, tmp_path: Path) -> None:
    async with other_machine(tmp_path) as machine:
        table = (await there.run(*PYTHON, "table", dns=False, prefix=machine)).json()
    assert table["demo-pod"] == ["192.168.0.7"] and table["only.here"] == ["192.168.0.1"]
    assert table["v4only"] == [-2]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"local": ["v4only", "demo-pod"]}, ["192.168.0.1", "10.77.0.9", "192.168.0.7", "10.77.0.8"]),
        ({"local": ["only.here"]}, ["10.77.0.2", "192.168.0.1", "10.244.0.7", "10.77.0.8"]),
        ({"remote": ["v4only", "demo-pod"]}, ["10.77.0.2", "192.168.0.1", "10.244.0.7", "10.77.0.8"]),
    ],
    ids=str,
)
async def test_the_filter(
    there: NamesPod, tmp_path: Path, filter: dict[str, list[str]], expected: list[str]
) -> None:
    async with other_machine(tmp_path) as machine:
        table = (await there.run(*PYTHON, "table", dns={"filter": filter}, prefix=machine)).json()
    names = ("v4only", "only.here", "demo-pod", "www.example.com")
    assert [table[name] for name in names] == [[address] for address in expected]


async def test_names_of_the_outgoing_filter_are_resolved_on_their_side(
    there: NamesPod, tmp_path: Path
) -> None:
    async with other_machine(tmp_path) as machine:
        outgoing = {"filter": {"local": ["only.here:5432"]}}
        table = (await there.run(*PYTHON, "table", prefix=machine, outgoing=outgoing)).json()
    assert table["only.here"] == ["192.168.0.1"] and table["v4only"] == ["10.77.0.2"]


async def test_a_name_in_the_outgoing_filter_means_what_the_target_takes_it_for(there: NamesPod) -> None:
    """By the target's search list and name servers; the program has only the address."""
    script = "import socket; print(socket.socket().connect_ex(('10.77.0.1', 7099)))"
    outgoing = {"filter": {"remote": ["api:7099"]}}
    ran = await there.run(sys.executable, "-c", script, outgoing=outgoing)
    assert int(ran.out) == errno.ECONNREFUSED
    assert "connect tcp 10.77.0.1:7099 -> ECONNREFUSED (outgoing.filter remote 'api:7099')" in ran.err


async def test_what_stays_here_goes_to_what_its_name_is_here(there: NamesPod, tmp_path: Path) -> None:
    """The program has the target's address for the name: TCP, not blocking too, datagrams, a name unknown here, and
    a connect that takes a second, with signals."""
    script = (
        "import socket; s = socket.create_connection(('only.here', 7001)); print(s.recv(9).decode(), end='')\n"
        "print(s.getpeername()[0]); s = socket.create_connection(('only.here', 7001), 20)\n"
        "print(s.recv(9).decode(), end=''); s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "s.bind(('', 7009)); s.sendto(b'x', ('only.here', 7009)); print(*s.recvfrom(9)[1])\n"
        "print(socket.socket().connect_ex(('www.example.com', 7001)))\n"
        "import os, signal, time; s = socket.socket()\n"
        "if not os.fork():\n"
        "  time.sleep(0.2); socket.socket(type=socket.SOCK_DGRAM).sendto(b'go', ('192.168.0.1', 7016)); os._exit(0)\n"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, False)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)\n"
        "s.connect(('only.here', 7016)); print(s.recv(9).decode().split('.')[0])\n"
    )
    async with other_machine(tmp_path) as machine:
        outgoing = {"filter": {"remote": ["10.77.0.1"]}}
        ran = await there.run(sys.executable, "-c", script, prefix=machine, outgoing=outgoing)
    assert ran.out.split() == [
        "here",
        "10.77.0.9",
        "here",
        "10.77.0.9",
        "7009",
        str(errno.ENETUNREACH),
        "192",
    ], ran.err
    reason = "outgoing.filter remote: no entry matches; only.here is 192.168.0.1 here"
    assert f"connect tcp 10.77.0.9:7001 -> this machine ({reason})" in ran.err


async def test_a_change_in_the_target_is_seen_by_a_running_program(there: NamesPod) -> None:
    command = [sys.executable, "-m", "pymirror.cli.main", "exec", "-t", f"process/{there.target.pid}"]
    made = await asyncio.create_subprocess_exec(
        *command, "--fs-mode", "local", "--", *map(str, PYTHON), "fresh",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert made.stdin is not None and made.stdout is not None
    assert json.loads(await made.stdout.readline()) == [-2]
    there.target.write("/etc/hosts", (HOSTS + "10.1.2.3 new-name\n").encode())
    made.stdin.write(b"\n" * 1_000)  # looks again and again until it is there
    line = asyncio.ensure_future(made.stdout.readline())
    while not line.done():
        made.stdin.write(b"\n")
        await asyncio.wait({line}, timeout=0.1)
    assert json.loads(line.result()) == ["10.1.2.3"]
    await made.communicate()
    there.target.write("/etc/hosts", HOSTS.encode())
