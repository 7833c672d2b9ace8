"""`pymirror exec` with a program that listens: whose requests it gets, and what the application still gets."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import pytest
import pytest_asyncio
from attrs import define
from tools import build

from pymirror.core.limit import timeout
from tests.sandbox.pod_network import PROGRAMS, ran
from tests.sandbox.steal_network import CLIENT, TARGET, WITHIN, Both, Side, cabled, inside

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]
WEB = 8090
SERVER = PROGRAMS / "incoming_web.py"
GET = "GET {} HTTP/1.1\r\nHost: web\r\n{}\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> Any:
    """The application, a web server, is in the target's network."""
    async with cabled() as made:
        words = inside(made.target.pid, sys.executable, str(SERVER), "application", str(WEB))
        server = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.PIPE)
        assert server.stdout is not None and await server.stdout.readline() == b"up\n"
        yield made
        server.kill()
        await server.wait()


@define
class Program:
    process: asyncio.subprocess.Process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), WITHIN)).decode().strip()


@asynccontextmanager
async def running(both: Both, incoming: Any, *command: Any, **agent: Any) -> AsyncIterator[Program]:
    """The program under `pymirror exec`, until the block ends."""
    network = {"incoming": incoming, "outgoing": False, "dns": False}
    feature = {"fs": "local", "env": False, "hostname": False, "network": network}
    config = json.dumps({"feature": feature, "agent": agent, "skip_build_tools": False})
    command = command or (sys.executable, SERVER, "program", WEB)
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pymirror.cli.main", "exec", "-f", "-", "-t", f"process/{both.target.pid}"),
        *("--", *map(str, command)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYMIRROR_PROGRESS_MODE": "simple"},
    )
    assert made.stdin is not None
    made.stdin.write(config.encode())
    made.stdin.close()
    program = Program(made)
    try:
        assert await program.line() == "up"
        yield program
    finally:
        if made.returncode is None:
            made.terminate()
        await asyncio.wait_for(made.wait(), WITHIN)


async def asked(side: Side, *requests: str, host: str = TARGET[4]) -> list[str]:
    """The bodies of the answers, over one connection."""
    line = await side.connect(host, WEB)
    found = []
    for request in requests:
        line.writer.write(request.encode())
        head = await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), WITHIN)
        size = next(
            int(each[15:])
            for each in head.decode().split("\r\n")
            if each.lower().startswith("content-length:")
        )
        found.append((await asyncio.wait_for(line.reader.readexactly(size), WITHIN)).decode())
    line.close()
    return found


PLAIN = GET.format("/hello", "")


@pytest.mark.parametrize("version", [4, 6])
async def test_a_stolen_port_is_the_programs_until_it_ends(both: Both, version: int) -> None:
    host, client = TARGET[version], CLIENT[version]
    assert await asked(both.client, PLAIN, host=host) == [f"application /hello {client}"]
    async with running(both, "steal"):
        assert await asked(both.client, PLAIN, PLAIN, host=host) == [f"program /hello {client}"] * 2
    assert await asked(both.client, PLAIN, host=host) == [f"application /hello {client}"]
    assert await both.target.rules() == ""


async def test_what_matches_the_filter_is_the_programs_alone(both: Both) -> None:
    """Each request of one connection is decided alone; the application sees the client either way."""
    mine = GET.format("/hello", "X-User: me\r\n")
    chosen = {"mode": "steal", "http_filter": {"header_filter": "x-user: me"}}
    async with running(both, chosen):
        found = await asked(both.client, PLAIN, mine, PLAIN, mine)
    sides = ["application", "program"] * 2
    assert found == [f"{side} /hello {CLIENT[4]}" for side in sides]


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_an_application_that_waits_no_longer_is_asked_anew(both: Both, words: bytes) -> None:
    """While a client's requests are the program's, its connection to the application is idle."""
    lines: list[asyncio.StreamWriter] = []
    body = "application"

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    port = int(GRPC) + 2
    application = await asyncio.start_server(serves, sock=await both.target.listen(TARGET[4], port))
    chosen = {"mode": "steal", "http_filter": {"header_filter": "x-user: me"}}
    async with running(both, chosen, sys.executable, SERVER, "program", port):
        line = await both.client.connect(TARGET[4], port)
        for mine in (True, False):
            line.writer.write(GET.format("/hello", "X-User: me\r\n" * mine).encode())
            head = await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), WITHIN)
            assert b" 200 " in head
            answer = (await asyncio.wait_for(line.reader.read(1000), WITHIN)).decode()
            assert answer.startswith("program /hello" if mine else "application")
            for idle in lines:
                idle.write(words)
                idle.close()
                await idle.wait_closed()
        line.close()
    application.close()
    assert len(lines) == 2


async def test_an_answer_says_whose_it_is_if_asked_and_no_other_byte_is_another(both: Both) -> None:
    head, body = b"HTTP/1.1 200  Odd\r\nx-Odd:1 \r\nContent-LENGTH: 16\r\n", b"\r\nHTTP/1.1 200\r\n\r\n"
    answer, served = head + body, list[Any]()

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                for at in range(len(answer)):
                    writer.write(answer[at : at + 1])
                    await asyncio.sleep(0)
        writer.close()

    async def told(mine: bool, size: int) -> bytes:
        line.writer.write(GET.format("/hello", "X-User: me\r\n" * mine).encode())
        return await asyncio.wait_for(line.reader.readexactly(size), WITHIN)

    port = int(GRPC) + 3
    application = await asyncio.start_server(serves, sock=await both.target.listen(TARGET[4], port))
    chosen = {"mode": "steal", "http_filter": {"header_filter": "x-user: me"}}
    line = await both.client.connect(TARGET[4], port)
    assert await told(False, len(answer)) == answer
    line.close()
    for marks in (b"", b"Pymirror-Agent: passed-through\r\n"):
        command = sys.executable, SERVER, "program", port
        async with running(both, chosen, *command, inject_headers=bool(marks)):
            line = await both.client.connect(TARGET[4], port)
            for _ in range(2):
                assert await told(False, len(answer + marks)) == head + marks + body
                own = await told(True, 1) + await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), WITHIN)
                assert own.endswith(b"\r\nPymirror-Agent: forwarded-to-client\r\n\r\n") is bool(marks)
                await line.reader.readexactly(len(f"program /hello {CLIENT[4]}"))
            line.close()
    application.close()
    async with timeout(WITHIN):
        await asyncio.gather(*served)


async def test_a_mirrored_port_is_the_applications_and_the_program_gets_a_copy(both: Both) -> None:
    async with running(both, "mirror") as program:
        assert await asked(both.client, PLAIN) == [f"application /hello {CLIENT[4]}"]
        assert await program.line() == f"/hello {CLIENT[4]}"
    assert await both.target.rules() == ""


async def test_a_mirror_with_a_filter_copies_what_matches(both: Both) -> None:
    chosen = {"mode": "mirror", "http_filter": {"path_filter": "^/mine"}}
    async with running(both, chosen) as program:
        paths = ("/yours", "/mine/1", "/yours", "/mine/2")
        found = await asked(both.client, *(GET.format(path, "") for path in paths))
        assert found == [f"application {path} {CLIENT[4]}" for path in paths]
        assert [await program.line() for _ in range(2)] == [f"/mine/{n} {CLIENT[4]}" for n in (1, 2)]


GRPC = "8091"


async def test_requests_of_http2_are_decided_too(both: Both, tmp_path: Path) -> None:
    server, host = tmp_path / "server", f"http://{TARGET[4]}:{GRPC}"
    source = Path(__file__).parents[1] / "features/network/http2_server.go"
    await build("go", "build", "-o", server, source, CGO_ENABLED="0")
    there = inside(both.target.pid, str(server), "application", f":{GRPC}")
    application = await asyncio.create_subprocess_exec(*map(str, there), stdout=asyncio.subprocess.PIPE)
    assert application.stdout is not None and await application.stdout.readline() == b"8091\n"
    chosen = {"mode": "steal", "http_filter": {"path_filter": "^/mine"}}
    local = ("bash", "-c", 'echo up; exec "$0" program :$1', server, GRPC)
    curl = ("curl", "-sS", "--http2-prior-knowledge", "--max-time", "20")

    async def got(path: str) -> str:
        return (await ran(*inside(both.client.pid, *curl, f"{host}/{path}"))).out.partition(" 0 ")[0]

    try:
        async with running(both, chosen, *local):
            for _ in range(100):  # until the program listens
                if (await got("mine/0")).startswith("program"):
                    break
                await asyncio.sleep(0.1)
            assert [await got(path) for path in ("yours/1", "mine/2", "yours/3")] == [
                "application GET /yours/1",
                "program GET /mine/2",
                "application GET /yours/3",
            ]
    finally:
        application.kill()
        await application.wait()


async def test_an_application_that_begins_with_its_settings_is_filtered_too(
    both: Both, tmp_path: Path
) -> None:
    """As gRPC's do; the client is told them, and then asks."""
    server = tmp_path / "server"
    source = Path(__file__).parents[1] / "features/network/http2_server.go"
    await build("go", "build", "-o", server, source, CGO_ENABLED="0")
    spoke = asyncio.Event()

    async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes.fromhex("000000040000000000"))
        spoke.set()
        await reader.read()
        writer.close()

    port = int(GRPC) + 1
    application = await asyncio.start_server(speaks, sock=await both.target.listen(TARGET[4], port))
    chosen = {"mode": "steal", "http_filter": {"path_filter": "^/mine"}}
    local = ("bash", "-c", 'echo up; exec "$0" program :$1', server, port)
    try:
        async with running(both, chosen, *local):
            for _ in range(100):
                spoke.clear()
                line = await both.client.connect(TARGET[4], port)
                await asyncio.wait_for(spoke.wait(), WITHIN)
                await asyncio.sleep(0.1)  # it has come
                answer = await over_http2(line, "/mine/1")
                line.close()
                if answer:
                    break
        assert answer.startswith("program GET /mine/1")
    finally:
        application.close()


async def test_a_mirror_copies_the_requests_of_http2_that_match(both: Both) -> None:
    """Calls as gRPC makes them, over one connection; the application has them all, and the client its answers."""
    port = int(GRPC) + 2
    words = inside(both.target.pid, sys.executable, str(PROGRAMS / "incoming_h2.py"), str(port))
    application = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.PIPE)
    assert application.stdout is not None and await application.stdout.readline() == b"up\n"
    chosen = {"mode": "mirror", "http_filter": {"header_filter": "^x-user: me$"}}
    local = (sys.executable, PROGRAMS / "incoming_h2.py", port)
    calls = [(number, number % 4 == 3, b"\0\0\0\0\1" + bytes([number])) for number in range(1, 40, 2)]
    try:
        async with running(both, chosen, *local) as program:
            line = await both.client.connect(TARGET[4], port)
            ended = await called(line, calls)
            assert ended == [number for number, *_ in calls]
            theirs = [(await application.stdout.readline()).decode().strip() for _ in calls]
            ours = [await program.line() for _, mine, _ in calls if mine]
            line.close()
        assert theirs == [f"/s/{number} {body.hex()}" for number, _, body in calls]
        assert ours == [f"/s/{number} {body.hex()}" for number, mine, body in calls if mine]
    finally:
        application.kill()
        await application.wait()


async def called(line: Any, calls: list[tuple[int, bool, bytes]]) -> list[int]:
    """The streams that were answered to their end: each is its number, whether it is mine, and its body."""
    speaks = h2.connection.H2Connection()
    speaks.initiate_connection()
    for number, mine, body in calls:
        head = {":method": "POST", ":path": f"/s/{number}", ":scheme": "http", ":authority": "web"}
        speaks.send_headers(number, [*head.items(), *([("x-user", "me")] if mine else [])])
        speaks.send_data(number, body, end_stream=True)
    line.writer.write(speaks.data_to_send())
    ended = []
    async with timeout(WITHIN):
        while len(ended) < len(calls):
            events = speaks.receive_data(await line.reader.read(65536))
            ended += [event.stream_id for event in events if isinstance(event, h2.events.StreamEnded)]
            line.writer.write(speaks.data_to_send())
    return ended


async def over_http2(line: Any, path: str) -> str:
    """The answer's body; empty where there is none."""
    speaks = h2.connection.H2Connection()
    speaks.initiate_connection()
    head = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "web"}
    speaks.send_headers(1, list(head.items()), end_stream=True)
    line.writer.write(speaks.data_to_send())
    body = b""
    with suppress(asyncio.TimeoutError):
        async with timeout(2):
            while data := await line.reader.read(65536):
                for event in speaks.receive_data(data):
                    body += getattr(event, "data", b"") if isinstance(event, h2.events.DataReceived) else b""
                    if isinstance(event, h2.events.StreamEnded):
                        return body.decode()
    return ""


async def test_a_killed_pymirror_leaves_the_port(both: Both) -> None:
    """The agent of a process ends with who started it; the others ask (test_incoming_steal, the cluster tier)."""
    async with running(both, "steal") as program:
        assert await asked(both.client, PLAIN) == [f"program /hello {CLIENT[4]}"]
        program.process.kill()
        await program.process.wait()
        for _ in range(20):
            await asyncio.sleep(0.5)
            with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                async with timeout(1):
                    if await asked(both.client, PLAIN) == [f"application /hello {CLIENT[4]}"]:
                        break
        else:
            pytest.fail("the port is not the application's again")


async def test_a_port_that_another_session_has_is_refused_by_its_name(both: Both) -> None:
    async with running(both, "steal"):
        with pytest.raises(AssertionError):
            async with running(both, "steal"):
                pass
        assert await asked(both.client, PLAIN) == [f"program /hello {CLIENT[4]}"]
