"""TLS with the face of a stream: bytes, ends with and without close_notify, who has no room, handshakes that fail."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from incoming_agent import until
from incoming_scene import pair
from tls_things import Made, Peer, asking, certificate, serving

from pymirror.core.limit import timeout
from pymirror.features.network.incoming import secure
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.secure import Secured
from pymirror.features.network.incoming.splice import Splice

pytestmark = pytest.mark.asyncio
BIG = bytes(range(256)) * (16 << 10)  # 4 MiB


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return certificate(tmp_path_factory.mktemp("tls"))


@define
class Ends:
    """The stream, its peer beyond the socket, and how the handshake went."""

    stream: Secured
    peer: Peer | Any
    how: asyncio.Future[Exception | None]

    async def read(self, size: int) -> bytes:
        """So many bytes, or all up to the end."""
        came, data = asyncio.Event(), b""
        self.stream.attach(came.set, lambda: None)
        async with timeout(20):
            while len(data) < size:
                came.clear()
                try:
                    more = self.stream.read_now(1 << 16)
                except BlockingIOError:
                    await came.wait()
                    continue
                if not more:
                    break
                data += more
        return data

    async def write(self, data: bytes) -> None:
        room, view = asyncio.Event(), memoryview(data)
        self.stream.attach(lambda: None, room.set)
        async with timeout(20):
            while view:
                room.clear()
                view = view[self.stream.write_now(view) :]
                if view:
                    await room.wait()


@asynccontextmanager
async def ends(
    made: Made,
    serves: bool = True,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    cut: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Ends]:
    """serves: the stream does, and the peer asks; not shaken yet."""
    inner, outer = pair()
    server, client = serving(made), asking()
    client.minimum_version = client.maximum_version = version
    how: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    context, other = (server, client) if serves else (client, server)
    stream = Secured(Pipe(inner), context, how.set_result, None if serves else "web", cut=cut)
    stream.begin()
    yield Ends(stream, Peer(outer, other, "web" if serves else None), how)
    stream.close()
    outer.close()


@pytest.fixture(params=[(True, "TLSv1_2"), (True, "TLSv1_3"), (False, "TLSv1_2"), (False, "TLSv1_3")])
async def both(made: Made, request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    serves, version = request.param
    async with ends(made, serves, ssl.TLSVersion[version]) as them:
        await them.peer.shake()
        assert await them.how is None
        yield them


async def test_bytes_go_both_ways(both: Ends) -> None:
    await asyncio.gather(both.peer.send(BIG), check(both.read(len(BIG)), BIG))
    await asyncio.gather(both.write(BIG), check(both.peer.exactly(len(BIG)), BIG))


async def check(what: Any, data: bytes) -> None:
    assert await what == data


async def test_who_ends_first_still_hears_the_other(both: Ends) -> None:
    """A half that has ended says close_notify, and what is on its way, or comes later, is read."""
    await both.peer.send(b"before")
    await asyncio.sleep(0)
    both.stream.end()
    assert await both.peer.some() == b""
    await both.peer.send(b" and after")
    assert await both.read(16) == b"before and after"
    await both.peer.end()
    assert await both.read(1) == b""
    assert not both.stream.truncated
    assert isinstance(both.stream.broken, BrokenPipeError)
    assert await both.peer._raw() == b""  # and the connection below ends without a reset


async def test_the_other_may_end_first(both: Ends) -> None:
    await both.peer.send(b"last")
    await both.peer.end()
    assert await both.read(8) == b"last"
    await both.write(b"answer")
    both.stream.end()
    assert await both.peer.exactly(8) == b"answer"
    both.peer.sock.close()


async def test_an_end_without_close_notify_is_told(both: Ends) -> None:
    await both.peer.send(b"half")
    both.peer.sock.shutdown(1)
    assert await both.read(8) == b"half"
    assert both.stream.truncated


async def test_an_end_that_was_cut_off_is_passed_on_as_such(made: Made) -> None:
    async with ends(made, cut=lambda: True) as both:
        await both.peer.shake()
        await both.how
        await both.write(b"half")
        both.stream.end()
        assert await both.peer.exactly(4) == b"half"
        with pytest.raises(ssl.SSLEOFError):
            await both.peer.some()


async def test_a_reset_is_an_error(both: Ends) -> None:
    both.peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
    both.peer.sock.close()
    with pytest.raises(ConnectionResetError):
        await both.read(1)


async def test_bytes_that_were_changed_on_the_way_end_it_with_an_alert(both: Ends) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(both.peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        await both.read(1)
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        while await both.peer.some():
            pass


async def test_a_peer_that_does_not_read_stops_the_writer(both: Ends) -> None:
    data, written = BIG * 8, 0
    for _ in range(10_000):
        size = both.stream.write_now(memoryview(data)[written:])
        written += size
        if not size:
            break
        await asyncio.sleep(0)
    assert 0 < written < len(data)
    assert not both.stream.room()
    await asyncio.gather(both.write(data[written:]), check(both.peer.exactly(len(data)), data))


async def test_what_was_read_may_be_put_back(both: Ends) -> None:
    await both.peer.send(b"begin")
    assert await both.read(5) == b"begin"
    both.stream.unread(b"begin")
    await both.peer.send(b" end")
    assert await both.read(9) == b"begin end"


async def test_no_tls_is_refused(made: Made) -> None:
    async with ends(made) as both:
        await asyncio.get_running_loop().sock_sendall(both.peer.sock, b"GET / HTTP/1.1\r\n\r\n")
        assert isinstance(await both.how, ssl.SSLError)


async def test_an_end_within_the_handshake_is_its_end(made: Made) -> None:
    async with ends(made) as both:
        both.peer.sock.close()
        assert isinstance(await both.how, ConnectionAbortedError)


async def test_a_handshake_has_a_time(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure, "WITHIN", 0.05)
    async with ends(made) as both:
        assert isinstance(await both.how, TimeoutError)


async def test_who_asks_hears_the_alert(made: Made) -> None:
    inner, outer = pair()
    how: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    context = serving(made)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    stream = Secured(Pipe(inner), context, how.set_result)
    stream.begin()
    client = asking()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        await Peer(outer, client, "web").shake()
    assert isinstance(await how, ssl.SSLError)
    outer.close()


async def test_two_streams_are_spliced(made: Made) -> None:
    async with ends(made) as one, ends(made, serves=False) as other:
        for each in (one, other):
            await each.peer.shake()
            assert await each.how is None
        over = asyncio.Event()
        Splice(one.stream, other.stream, over.set)
        await asyncio.gather(one.peer.send(BIG), check(other.peer.exactly(len(BIG)), BIG))
        await one.peer.end()
        assert await other.peer.some() == b""
        await other.peer.send(b"late")
        await other.peer.end()
        assert await one.peer.exactly(8) == b"late"
        async with timeout(20):
            await over.wait()


@asynccontextmanager
async def talking(words: list[str]) -> AsyncIterator[Callable[..., Any]]:
    """`openssl s_client` or `s_server`; what it yields waits for words of it, then says more."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    heard = b""

    async def when(words: bytes, say: bytes = b"") -> None:
        nonlocal heard
        assert process.stdout is not None and process.stdin is not None
        async with timeout(20):
            while words not in heard:
                more = await process.stdout.read(1 << 16)
                assert more, heard
                heard += more
        heard = heard.partition(words)[2] if words else heard
        process.stdin.write(say)

    try:
        yield when
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("command", [b"K\n", b"k\n"])
async def test_a_client_may_change_its_keys(made: Made, command: bytes) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        where = f"127.0.0.1:{server.getsockname()[1]}"
        async with talking(["s_client", "-connect", where, "-tls1_3"]) as when:
            inner, _ = await loop.sock_accept(server)
            inner.setblocking(False)
            how: asyncio.Future[Exception | None] = loop.create_future()
            stream = Secured(Pipe(inner), serving(made), how.set_result)
            stream.begin()
            assert await how is None
            them = Ends(stream, None, how)
            await when(b"Verify return code", b"one\n")
            assert await them.read(4) == b"one\n"
            await when(b"", command)
            reading = asyncio.ensure_future(them.read(4))
            await when(b"KEYUPDATE", b"two\n")
            assert await reading == b"two\n"
            await them.write(b"three")
            await when(b"three")
            stream.close()


@pytest.mark.parametrize(
    ("version", "command", "said"),
    [("-tls1_2", b"r\n", b"SSL_do_handshake -> 1"), ("-tls1_3", b"K\n", b"")],
)
async def test_an_application_may_shake_hands_again(
    made: Made, version: str, command: bytes, said: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = ["-cert", str(made.certificate), "-key", str(made.key)]
    async with talking(["s_server", "-accept", str(port), *files, version]) as when:
        await when(b"ACCEPT")
        inner = socket.create_connection(("127.0.0.1", port))
        inner.setblocking(False)
        how: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        stream = Secured(Pipe(inner), asking(), how.set_result, "web")
        stream.begin()
        assert await how is None
        them = Ends(stream, None, how)
        await them.write(b"one\n")
        await when(b"one\n", command)
        reading = asyncio.ensure_future(them.read(4))
        await when(said)
        await them.write(b"heard\n")  # s_server reads its commands first, and one at a time
        reading.cancel()
        reading = asyncio.ensure_future(them.read(4))
        await when(b"heard\n", b"two\n")
        assert await reading == b"two\n"
        await them.write(b"three\n")
        await when(b"three\n")
        stream.close()


async def test_early_data_for_the_application_is_refused_and_the_client_goes_on(
    made: Made, tmp_path: Path
) -> None:
    """A ticket of the application's own, by which a client speaks before the handshake."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = ["-cert", str(made.certificate), "-key", str(made.key), "-tls1_3"]
    ticket, early = tmp_path / "ticket", tmp_path / "early"
    early.write_text("early\n")
    async with talking(["s_server", "-accept", str(port), *files, "-early_data"]) as there:
        await there(b"ACCEPT")
        async with talking(["s_client", "-connect", f"127.0.0.1:{port}", "-sess_out", str(ticket)]):
            await until(lambda: ticket.exists() and b"END SSL SESSION" in ticket.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        where = f"127.0.0.1:{server.getsockname()[1]}"
        words = ["s_client", "-connect", where, "-sess_in", str(ticket), "-early_data", str(early)]
        async with talking(words) as when:
            inner, _ = await loop.sock_accept(server)
            inner.setblocking(False)
            how: asyncio.Future[Exception | None] = loop.create_future()
            stream = Secured(Pipe(inner), serving(made), how.set_result)
            stream.begin()
            assert await how is None
            await when(b"Early data was rejected", b"after\n")
            assert await Ends(stream, None, how).read(6) == b"after\n"
            stream.close()
