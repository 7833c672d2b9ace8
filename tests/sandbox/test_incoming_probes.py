"""The target's probes on a port that is stolen whole: who answers them, and that all else is the program's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import h2.events
import pytest
from attrs import define, field
from http2_peer import POST, Peer, Server, server

from pymirror.core.feature import Stream, handles
from pymirror.core.limit import timeout
from pymirror.core.probe import Probe
from pymirror.features.network.carry import join
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.http_filter import HttpFilter
from pymirror.features.network.incoming.stand_in import SERVING
from tests.sandbox.steal_agent import Layer, session
from tests.sandbox.steal_network import TARGET, WITHIN, Both, Line, cabled

pytestmark = pytest.mark.sandbox
HOST, WEB = TARGET[4], 8090
KUBE = "kube-probe/"
HTTP = Probe("liveness", "http", WEB, "/healthz", KUBE)
GRPC = Probe("liveness", "grpc", WEB, "", KUBE)
PROBE = "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\n{}\r\n"
PLAIN = "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8\r\n\r\n"
WELL = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ANSWER, PASS = Config(mode="steal", probes="answer"), Config(mode="steal", probes="pass")


@define
class Web:
    """Says who it is and what it was asked, with the client's own address; stopped: it answers nobody."""

    name: str
    greeting: str = ""
    stopped: bool = False
    seen: list[str] = field(factory=list)

    def says(self, request: str) -> str:
        body = f"{self.name}: {request.splitlines()[0]}" if request else ""
        return f"HTTP/1.1 200 OK\r\nX-Own: 1\r\nContent-Length: {len(body)}\r\n\r\n{body}"

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting.encode())
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.seen.append(request)
                if not self.stopped:
                    writer.write(self.says(request).encode())
        except asyncio.IncompleteReadError as error:
            self.seen.append(f"{error.partial!r} and the end")
        except ConnectionError:
            return
        finally:
            writer.close()


class Joined(Layer):
    """Gives every connection to the program, a server of this machine."""

    program = 0

    @handles(m.Arrived)
    def arrived(  # type: ignore[override]
        self, arrived: m.Arrived, stream: Stream
    ) -> None:
        sock = socket.create_connection(("127.0.0.1", self.program))
        sock.setblocking(False)
        join(sock, stream, lambda: None)


@define
class There:
    both: Both
    application: Web
    program: Web

    async def connect(self) -> Line:
        return await self.both.client.connect(HOST, WEB)

    async def asked(self, *requests: str) -> list[str]:
        """The answers, over one connection."""
        line, found = await self.connect(), []
        for request in requests:
            found.append(await answer(line, request))
        line.close()
        return found


async def answer(line: Line, request: str) -> str:
    """All of it."""
    line.writer.write(request.encode())
    async with timeout(WITHIN):
        head = (await line.reader.readuntil(b"\r\n\r\n")).decode()
        return head + (await line.reader.readexactly(int(head.rpartition(": ")[2]))).decode()


@asynccontextmanager
async def taken(config: Config, *probes: Probe, greeting: str = "") -> AsyncIterator[There]:
    async with cabled() as both, AsyncExitStack() as stack:
        there = There(both, Web("application"), Web("program", greeting))
        listener = await both.target.listen("0.0.0.0", WEB)
        both.undo.callback((await asyncio.start_server(there.application.came, sock=listener)).close)
        mine = await asyncio.start_server(there.program.came, "127.0.0.1", 0)
        stack.callback(mine.close)
        port = mine.sockets[0].getsockname()[1]
        layer = type("Here", (Joined,), {"program": port})
        one = await stack.enter_async_context(session(both, layer=layer, config=config, probes=probes))
        assert await one.take(WEB) == m.Subscribed()
        yield there


async def test_probes_are_passed_to_the_application_and_all_else_is_the_programs() -> None:
    """On one connection that is kept, and by one that is not, as the kubelet's."""
    async with taken(PASS, HTTP) as there:
        probe, last = PROBE.format(""), PROBE.format("Connection: close\r\n")
        for requests in ((PLAIN, probe, PLAIN, probe), (last,)):
            wanted = [
                (there.application if "kube" in each else there.program).says(each) for each in requests
            ]
            assert await there.asked(*requests) == wanted
        assert there.application.seen[:2] == [probe, probe]  # not a byte is another
        assert there.program.seen[:2] == [PLAIN, PLAIN]


async def test_probes_are_answered_while_program_and_application_are_stopped() -> None:
    async with taken(ANSWER, HTTP) as there:
        assert await there.asked(PROBE.format(""), PLAIN, PROBE.format("")) == [
            WELL,
            there.program.says(PLAIN),
            WELL,
        ]
        there.program.stopped = there.application.stopped = True
        assert await there.asked(PROBE.format("")) == [WELL]
        line = await there.connect()
        last = WELL.replace("\r\n", "\r\nConnection: close\r\n", 1)
        assert await answer(line, PROBE.format("Connection: close\r\n")) == last
        assert await line.says() == ""
        assert there.application.seen == []


async def test_a_probe_behind_a_request_that_waits_keeps_its_place() -> None:
    async with taken(ANSWER, HTTP) as there:
        line = await there.connect()
        line.writer.write((PLAIN + PROBE.format("") + PLAIN).encode())
        wanted = there.program.says(PLAIN) + WELL + there.program.says(PLAIN)
        async with timeout(WITHIN):
            assert (await line.reader.readexactly(len(wanted))).decode() == wanted


@pytest.mark.parametrize("config", [ANSWER, PASS])
async def test_what_is_no_http_is_the_programs(config: Config) -> None:
    async with taken(config, HTTP) as there:
        for words, seen in (
            ("hello\r\n\r\n", "hello\r\n\r\n"),
            ("", "b'' and the end"),  # as a probe over TCP
            ("PRI * HTTP", "b'PRI * HTTP' and the end"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"),
        ):
            line = await there.connect()
            line.writer.write(words.encode())
            line.writer.write_eof()
            async with timeout(WITHIN):
                await line.reader.read()
            assert seen in there.program.seen
        assert there.application.seen == []


async def test_a_client_that_waits_for_the_server_to_begin_is_the_programs() -> None:
    async with taken(ANSWER, HTTP, greeting="ready\r\n") as there:
        assert await (await there.connect()).says() == "ready"


async def test_without_a_choice_probes_are_the_programs() -> None:
    async with taken(Config(mode="steal"), HTTP, GRPC) as there:
        probe = PROBE.format("")
        assert await there.asked(probe) == [there.program.says(probe)]


async def test_of_a_filtered_port_the_application_has_them() -> None:
    chosen = HttpFilter(path_filter="^/healthz")
    async with taken(Config(mode="steal", probes="answer", http_filter=chosen), HTTP) as there:
        probe = PROBE.format("")
        assert await there.asked(probe, PLAIN) == [there.application.says(probe), there.program.says(PLAIN)]


CHECK = [
    *POST[:3],
    (":path", "/grpc.health.v1.Health/Check"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
WATCH = [(name, value.replace("Check", "Watch")) for name, value in CHECK]
KUBELET = ("user-agent", "kube-probe/1.33 grpc-go/1.68.1")
EMPTY = b"\0\0\0\0\0"


async def told(peer: Peer, number: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """All heads of an answer, and its body."""
    heads, body = [], b""
    async with timeout(WITHIN):
        while not isinstance(event := await peer.next(object, number), h2.events.StreamEnded):
            if isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                heads += [tuple(each) for each in event.headers]
    return heads, body


@asynccontextmanager
async def grpc(config: Config) -> AsyncIterator[tuple[Peer, Server, Server]]:
    """(the client, the application, the program)"""
    async with cabled() as both, server() as program, AsyncExitStack() as stack:
        application = Server(None)
        listener = await both.target.listen("0.0.0.0", WEB)
        both.undo.callback((await asyncio.start_server(application.came, sock=listener)).close)
        layer = type("Here", (Joined,), {"program": program.port})
        one = await stack.enter_async_context(session(both, layer=layer, config=config, probes=[GRPC]))
        assert await one.take(WEB) == m.Subscribed()
        line = await both.client.connect(HOST, WEB)
        stack.callback(application.close)
        yield Peer((line.reader, line.writer), True), application, program


async def test_grpcs_probes_are_answered_and_calls_are_the_programs() -> None:
    async with grpc(ANSWER) as (near, application, program):
        number = near.ask([*CHECK, KUBELET], EMPTY)
        kind = (b"content-type", b"application/grpc")
        well = [(b":status", b"200"), kind, (b"grpc-status", b"0")], SERVING
        assert await told(near, number) == well
        call = near.ask([*CHECK, ("user-agent", "grpc-go/1.68.1")], EMPTY)
        async with timeout(WITHIN):
            far = await program.accepted()
            asked = await far.next(h2.events.RequestReceived)
        far.answer(asked.stream_id, b"mine")
        assert (await told(near, call))[1] == b"mine"
        number = near.ask([*WATCH, KUBELET], EMPTY)  # which goes on
        async with timeout(WITHIN):
            assert (await near.next(h2.events.DataReceived, number)).data == SERVING
        again = near.ask([*CHECK, KUBELET], EMPTY)
        assert await told(near, again) == well
        assert application._queue.empty()


async def test_grpcs_probes_are_passed_on_and_calls_are_the_programs() -> None:
    async with grpc(PASS) as (near, application, program):
        call, number = near.ask(CHECK, EMPTY), near.ask([*CHECK, KUBELET], EMPTY)
        async with timeout(WITHIN):
            for servers, stream, words in ((application, number, b"theirs"), (program, call, b"mine")):
                far = await servers.accepted()
                asked = await far.next(h2.events.RequestReceived)
                assert (b":path", b"/grpc.health.v1.Health/Check") in [tuple(each) for each in asked.headers]
                far.answer(asked.stream_id, words)
                assert (await told(near, stream))[1] == words
