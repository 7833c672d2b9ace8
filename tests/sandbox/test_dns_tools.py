"""The tools one looks names up with, and odd names and settings, beside the same in the target's network."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.dns_pod import RESOLV, NamesPod, names_pod
from tests.sandbox.pod_network import Ran
from tests.sandbox.test_dns_programs import NAMES, PYTHON, build_c, build_go, tool

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

ORIGIN = "demo.svc.cluster.local"
ODD = ["printer.local", "v4only.", "API.Demo", f"dead.{ORIGIN}.", "nothing.", ".", "", "a..b", "x" * 64, "-"]
ODD += [
    "0x7f.1",
    "10.77.258",
    "v4only.demo",
    "*.demo",
    "a b",
    "1.0.77.10.in-addr.arpa",
    "fe80::1%lo",
    "b\u00fccher",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with names_pod(tmp_path_factory.mktemp("names")) as made:
        yield made


async def same(there: NamesPod, *program: object, **network: Any) -> Ran:
    """How the program ends under pymirror, which must be how it ends beside the target; numbers of messages apart."""
    mine, truth = await there.run(*program, **network), await there.truth(*program)
    assert (mine.status, plain(mine.out)) == (truth.status, plain(truth.out)), mine.err
    return mine


def plain(text: str) -> str:
    return re.sub(r"id: \d+|\d+ msec|COOKIE: .*", "", text)


QUERIES = {
    f"dig +short v4only.{ORIGIN}": "10.77.0.2",
    "dig +search +short v4only": "10.77.0.2",
    f"dig +short +tcp MX mail.{ORIGIN}": f"10 api.{ORIGIN}.",
    "dig +short -x 10.77.0.1": f"api.{ORIGIN}.",
    f"dig +short +tcp @10.77.0.9 TXT who.{ORIGIN}": '"tcp"',
    f"dig +short @fd77::1 AAAA api.{ORIGIN}": "fd77::1",
    f"dig +noall +comments nothing.{ORIGIN}": "status: NXDOMAIN",
    f"dig +noall +comments broken.{ORIGIN}": "status: SERVFAIL",
    f"dig +noall +comments +noedns +ignore TXT big.{ORIGIN}": "flags: qr tc",
    f"dig +noall +comments +bufsize=600 +ignore TXT big.{ORIGIN}": "flags: qr tc",
    f"dig +short +bufsize=512 TXT big.{ORIGIN}": "029xxx",
    f"dig +short +bufsize=8192 +ignore TXT big.{ORIGIN}": "029xxx",
    f"dig +noall +comments +nsid +nocookie v4only.{ORIGIN}": "NSID",
    "host v4only": "has address 10.77.0.2",
    "host -t MX mail": "mail is handled by 10",
    "host 10.77.0.1": "pointer api",
    "host nothing": "NXDOMAIN",
    "getent ahosts api": "fd77::1",
}


async def test_dig_and_host(there: NamesPod) -> None:
    tool("dig"), tool("host")
    script = "for words; do $words; echo; echo ==; done"
    told = (await same(there, "sh", "-c", script, "sh", *QUERIES)).out.split("\n==\n")
    for (query, said), answer in zip(QUERIES.items(), told, strict=False):
        assert said in answer, query


async def test_bash(there: NamesPod) -> None:
    """Its connections to names, which need both features."""
    script = "cat < /dev/tcp/api/7001; (: < /dev/tcp/api/7099) 2>&1; (: < /dev/tcp/nothing/80) 2>&1; true"
    said = (await same(there, "bash", "-c", script, outgoing=True)).out
    assert said.startswith("hello\n") and "Connection refused" in said and "Name or service not known" in said


HELLO = {
    "node": "require('net').connect({host: 'dual', port: 7001}).on('data', (data) => console.log(String(data).trim()))",
    "python": "import socket; print(socket.create_connection(('dual', 7001)).recv(9).decode().strip())",
    "curl": "telnet://dual:7001",
    "bash": "cat < /dev/tcp/dual/7001",
}


async def test_a_name_with_an_ipv6_address_that_the_target_has_no_way_to(there: NamesPod) -> None:
    """Clients that try all addresses, and both families at once, reach the other one."""
    script = (
        '"$1" -e "$2"; "$3" -c "$4"; "$5" -sS --noproxy "*" "$6" < /dev/null; bash -c "$7"; '
        '"$3" -c "import socket; print(socket.socket(socket.AF_INET6).connect_ex((\'fd78::1\', 7001)))"'
    )
    words = (
        tool("node"),
        HELLO["node"],
        sys.executable,
        HELLO["python"],
        tool("curl"),
        HELLO["curl"],
        HELLO["bash"],
    )
    said = (await same(there, "bash", "-c", script, "bash", *words, outgoing=True)).out
    assert said.splitlines() == ["hello"] * 4 + [str(errno.ENETUNREACH)]


@asynccontextmanager
async def options(there: NamesPod, words: str) -> AsyncIterator[None]:
    """The target's resolv.conf has these too."""

    def write(text: str) -> None:
        there.target.write("/etc/resolv.conf", text.encode())
        (there.folder / "resolv.conf").write_text(text)

    write(f"{RESOLV}options {words}\n")
    yield
    write(RESOLV)


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
async def test_odd_names(there: NamesPod, tmp_path: Path, compiler: str) -> None:
    """The codes of getaddrinfo too, and a name server that says nothing."""
    program = await build_c(tmp_path, compiler)
    async with options(there, "timeout:1"):
        said = (await same(there, program, *ODD, *NAMES)).out.splitlines()
    assert said[:2] == ["printer.local -2", "v4only. -2"] and said[3].endswith(" -3")


@pytest.mark.parametrize("words", ["use-vc", "ndots:0", "edns0 no-aaaa rotate"])
async def test_settings(there: NamesPod, words: str) -> None:
    async with options(there, words):
        assert json.loads((await same(there, *PYTHON, "table")).out)["broken"] == [-3]


async def test_go_that_asks_over_tcp_alone(there: NamesPod, tmp_path: Path) -> None:
    program = await build_go(tmp_path)
    async with options(there, "use-vc"):
        assert json.loads((await same(there, program, *NAMES)).out)["v4only"] == ["10.77.0.2"]


LIMITED = (
    "import errno, select, socket, struct\n"
    "server = socket.create_server(('192.0.2.7', 7700)); s = socket.socket()\n"
    "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 200000))\n"
    "print(errno.errorcode[s.connect_ex(('192.0.2.7', 7700))], *map(len, select.select([], [s], [], 20)))\n"
    "print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), *s.getpeername())\n"
    "server.accept()[0].sendall(b'hello'); print(s.recv(5))\n"
)
HERE_TOO = 'ip link set lo up; ip addr add 192.0.2.7/32 dev lo; exec "$@"'


async def test_a_connect_to_here_that_is_given_up_while_the_filters_names_are_looked_up(
    there: NamesPod,
) -> None:
    """It is begun all the same, as the program was told."""
    ran = await there.run(
        *(sys.executable, "-c", LIMITED),
        outgoing={"filter": {"remote": [f"slow.{ORIGIN}"]}},
        prefix=["unshare", "-n", "sh", "-c", HERE_TOO, "sh"],
    )
    assert ran.out == "EINPROGRESS 0 1 0\n0 192.0.2.7 7700\nb'hello'\n", ran.err
