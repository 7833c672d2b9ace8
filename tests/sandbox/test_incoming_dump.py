"""`pymirror dump`: what clients of the target send is printed, and nobody there feels it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.connection
import pytest
import pytest_asyncio
from attrs import define

from tests.sandbox.steal_network import CLIENT, PORT, TARGET, WITHIN, Both, cabled

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]
OTHER = PORT + 1
ADDRESS = f"{TARGET[4]}:{PORT}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> Any:
    async with cabled() as made:
        await made.serve("0.0.0.0", OTHER)
        yield made


@define
class Dump:
    process: asyncio.subprocess.Process
    words: list[str]
    """Of stderr until it was ready."""

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), WITHIN)).decode().rstrip("\n")

    async def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Status, and the rest of stdout and stderr."""
        if number:
            self.process.send_signal(number)
        out, err = await asyncio.wait_for(self.process.communicate(), WITHIN)
        assert self.process.returncode is not None
        return self.process.returncode, (out or b"").decode(), err.decode()


@asynccontextmanager
async def dumping(both: Both, *flags: str, config: Any = None, stdout: int = -1) -> AsyncIterator[Dump]:
    """Ready to print, until the block ends."""
    command = ("-m", "pymirror.cli.main", "dump", "-t", f"process/{both.target.pid}", *flags)
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, *(() if config is None else ("-f", "-"))),
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYMIRROR_PROGRESS_MODE": "simple"},
    )
    assert made.stdin is not None and made.stderr is not None
    made.stdin.write(json.dumps(config).encode())
    made.stdin.close()
    dump = Dump(made, [])
    try:
        while not any("mirror of ports" in each for each in dump.words):
            line = (await asyncio.wait_for(made.stderr.readline(), WITHIN)).decode()
            assert line, dump.words
            dump.words.append(line)
        yield dump
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def said(both: Both, *lines: str, port: int = PORT, end: bool = True) -> Any:
    """A client who is answered by the application."""
    line = await both.client.connect(TARGET[4], port)
    assert (await line.says()).startswith("app")
    for each in lines:
        assert await line.asks(each) == each.strip()
    if end:
        line.writer.write_eof()
        assert await line.reader.read() == b""
        line.close()
    return line


async def test_text_names_each_connection(both: Both) -> None:
    async with dumping(both, "-p", str(PORT), "--port", str(OTHER)) as dump:
        line = await said(both, "hello", "\x1b[31mred", end=False)
        own = line.own.replace(" ", ":")
        assert await dump.line() == f"--- connection 1: {own} to {ADDRESS}"
        assert [await dump.line() for _ in range(2)] == ["hello", r"\x1b[31mred"]
        other = await said(both, "there", port=OTHER)
        found = [await dump.line() for _ in range(3)]
        assert found[0].startswith(f"--- connection 2: {CLIENT[4]}:") and found[0].endswith(f":{OTHER}")
        assert found[1:] == ["there", "--- connection 2: ended"] and other
        await line.asks("again")
        assert await dump.line() == f"--- connection 1: {own} to {ADDRESS}"
        assert await dump.line() == "again"
        line.close()
        assert await dump.line() == "--- connection 1: ended"
        status, out, err = await dump.end()
        assert (status, out) == (0, "")
        assert "2 connections, 27 bytes" in err
    assert await both.target.rules() == ""


async def test_hex(both: Both) -> None:
    async with dumping(both, "-p", str(PORT), "--format", "hex", "--count", "1") as dump:
        await said(both, "abc")
        assert (await dump.line()).startswith("--- connection 1")
        assert await dump.line() == f"00000000  61 62 63 0a {'':36}  |abc.|"
        status, out, _ = await dump.end(0)
        assert (status, out) == (0, "--- connection 1: ended\n")


def posted(path: str, more: str = "", body: str = "") -> str:
    return f"POST {path} HTTP/1.1\r\nHost: web\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"


async def sent(both: Both, data: bytes) -> Any:
    line = await both.client.connect(TARGET[4], PORT)
    line.writer.write(data)
    return line


async def test_http_is_a_line_for_each_request(both: Both) -> None:
    async with dumping(both, "-p", str(PORT), "--format", "http", "--count", "3") as dump:
        line = await sent(both, (posted("/1", body="one") + posted("/2")).encode())
        found = [json.loads(await dump.line()) for _ in range(2)]
        assert [(each["path"], each["body"], each["connection"]) for each in found] == [
            ("/1", "one", 1),
            ("/2", "", 1),
        ]
        assert found[0]["client"] == line.own.replace(" ", ":") and found[0]["address"] == ADDRESS
        assert found[0]["headers"] == [["Host", "web"], ["Content-Length", "3"]]
        line.writer.write(posted("/3").encode())
        assert json.loads(await dump.line())["path"] == "/3"
        status, out, err = await dump.end(0)
        assert (status, out) == (0, "") and "3 requests" in err


FILTER = {
    "feature": {"network": {"incoming": {"mode": "steal", "http_filter": {"header_filter": "x-user: me"}}}}
}


@pytest.mark.parametrize("form", ["http", "text"])
async def test_a_filter_of_the_file_holds(both: Both, form: str) -> None:
    """Whatever its mode is: dump copies."""
    async with dumping(both, "-p", str(PORT), "--format", form, config=FILTER) as dump:
        assert any("requests that match" in each for each in dump.words)
        await sent(both, (posted("/yours") + posted("/mine", "X-User: me\r\n")).encode())
        if form == "text":
            assert (await dump.line()).startswith("--- connection 1")
        assert "/mine" in await dump.line()
    assert await both.target.rules() == ""


@pytest.mark.parametrize("config", [None, FILTER])
async def test_http2_with_a_filter_and_without(both: Both, config: Any) -> None:
    async with dumping(both, "-p", str(PORT), "--format", "http", config=config) as dump:
        speaks = h2.connection.H2Connection()
        speaks.initiate_connection()
        head = {":method": "POST", ":scheme": "http", ":authority": "web"}
        for number in range(1, 9, 2):
            mine = {"x-user": "me"} if number % 4 == 3 or config is None else {}
            speaks.send_headers(number, list({**head, ":path": f"/{number}", **mine}.items()))
            speaks.send_data(number, b"\0\0\0\0\3abc", end_stream=True)
        await sent(both, speaks.data_to_send())
        for number in range(1, 9, 2) if config is None else (3, 7):
            found = json.loads(await dump.line())
            assert (found["protocol"], found["path"]) == ("HTTP/2", f"/{number}")
            assert found["body"] == "\0\0\0\0\3abc" and not found["truncated"]


async def test_it_ends_by_itself(both: Both) -> None:
    async with dumping(both, "-p", str(PORT), "--for", "0.2") as dump:
        status, out, err = await dump.end(0)
        assert (status, out) == (0, "") and "0 connections, 0 bytes" in err


def kill_children(pid: int) -> None:
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(each), signal.SIGKILL)


async def test_an_agent_that_is_gone_ends_it_with_a_reason(both: Both) -> None:
    async with dumping(both, "-p", str(PORT)) as dump:
        kill_children(dump.process.pid)
        status, _, err = await dump.end(0)
        assert status == 125 and "warning: the connection to the agent is lost" in err


async def test_a_port_that_nobody_listens_on_is_a_note(both: Both) -> None:
    async with dumping(both, "-p", "9", "-p", str(PORT), "-p", "9") as dump:
        notes = [each for each in dump.words if "nothing listens on it" in each]
        assert len(notes) == 1 and "port 9 " in notes[0]
        assert (await dump.end(signal.SIGTERM))[0] == 0


async def test_a_reader_that_goes_away_ends_it_without_a_word(both: Both) -> None:
    read, write = os.pipe()
    async with dumping(both, "-p", str(PORT), stdout=write) as dump:
        os.close(write)
        os.close(read)
        await said(both, "hello")
        assert await asyncio.wait_for(dump.process.wait(), WITHIN) == 0
        assert dump.process.stderr is not None and await dump.process.stderr.read() == b""


async def test_a_reader_that_reads_nothing_holds_up_nobody(both: Both) -> None:
    """More than all buffers on the way hold; the application gets it all, and what is lost is counted."""
    read, write = os.pipe()
    async with dumping(both, "-p", str(PORT), "--format", "hex", stdout=write) as dump:
        os.close(write)
        line = await said(both, end=False)
        for _ in range(24):
            line.writer.write(b"x" * (1 << 20))
            assert len(await asyncio.wait_for(line.reader.readexactly(1 << 20), WITHIN)) == 1 << 20
        assert dump.process.stderr is not None
        words = (await asyncio.wait_for(dump.process.stderr.readline(), WITHIN)).decode()
        assert "copies end before their connections" in words
        dump.process.send_signal(signal.SIGINT)
        while os.read(read, 1 << 16):
            pass
        os.close(read)
        status, _, err = await dump.end(0)
        assert status == 0 and "1 copies ended early: the program does not read" in err
