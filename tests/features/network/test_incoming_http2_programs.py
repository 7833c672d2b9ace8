"""HTTP/2 of other makes: Go's server, curl's and nghttp2's client."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from http2_place import Place, place
from tools import build, tool

from pymirror.features.network.incoming.budget import BUDGET

SIZE = 20 << 20


@pytest.fixture(name="program", scope="module")
def program_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("go") / "server"
    asyncio.run(
        build("go", "build", "-o", program, Path(__file__).with_name("http2_server.go"), CGO_ENABLED="0")
    )
    return program


@contextmanager
def go_server(program: Path, name: str) -> Iterator[int]:
    with subprocess.Popen([program, name], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield int(running.stdout.readline())
        finally:
            running.kill()


@pytest.fixture(name="there")
async def there_fixture(program: Path) -> AsyncIterator[Place]:
    with go_server(program, "application") as application, go_server(program, "program") as local:
        async with place(application, local) as there:
            yield there
            await there.until_over()
    assert BUDGET.held == 0


async def curl(there: Place, path: str, *words: object) -> bytes:
    url = f"http://127.0.0.1:{there.port}{path}"
    common = ("-sS", "--http2-prior-knowledge", "--max-time", "60")
    running = await asyncio.create_subprocess_exec(
        tool("curl"), *common, *map(str, words), url, stdout=subprocess.PIPE
    )
    out, _ = await running.communicate()
    assert running.returncode == 0
    return out


@pytest.mark.parametrize("whose", ["application", "program"])
async def test_curl(there: Place, whose: str, tmp_path: Path) -> None:
    taken = ("-H", "X-Take: yes") if whose == "program" else ()
    empty = hashlib.sha256().hexdigest()
    assert await curl(there, "/a?b=c", *taken) == f"{whose} GET /a?b=c 0 {empty} <nil>\n".encode()
    body = bytes(range(256)) * (SIZE // 256)
    (tmp_path / "body").write_bytes(body)
    words = (*taken, "-T", tmp_path / "body")
    digest = hashlib.sha256(body).hexdigest()
    assert await curl(there, "/up", *words) == f"{whose} PUT /up {SIZE} {digest} <nil>\n".encode()
    assert await curl(there, f"/bytes?n={SIZE}", *taken) == bytes(SIZE)
    early = await curl(there, "/early", *taken, "-i")
    assert early.startswith(b"HTTP/2 103 \r\nlink: </style>\r\n\r\nHTTP/2 418 \r\n")


async def test_what_is_passed_on_is_what_the_application_said(there: Place) -> None:
    """The same, asked directly and through; but for the date."""

    async def asked(port: int) -> list[bytes]:
        out = await curl(Place(0, 0, port=port), "/bytes?n=10", "-i")
        return [line for line in out.splitlines() if not line.startswith(b"date")]

    assert await asked(there.port) == await asked(there.application)
