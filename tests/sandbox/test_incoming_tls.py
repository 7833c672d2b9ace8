"""Stolen ports that speak TLS: what is within is decided, and what is not ours reaches the application by TLS."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import ssl
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tls_things import Peer, certificate
from tools import build

from pymirror.core.limit import timeout
from tests.sandbox.pod_network import PROGRAMS, ran
from tests.sandbox.steal_network import CLIENT, WITHIN, _connected, cabled, inside
from tests.sandbox.tls_place import (
    BIG,
    HOST,
    PORT,
    SERVER,
    Place,
    application,
    asked,
    connected,
    files,
    get,
    line,
    post,
    raw,
    stealing,
)

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tls")
    made, local = certificate(folder / "there"), certificate(folder / "here", "here")
    await build("go", "build", "-o", folder / "web", PROGRAMS / "tls_web.go", CGO_ENABLED="0")
    async with cabled() as both:
        yield Place(both, made, local, folder, folder / "web")


@pytest.mark.parametrize("delivery", ["tls", "only", "roots", "tcp"])
async def test_each_request_of_a_connection_is_decided(place: Place, delivery: str) -> None:
    """The client sees the application's certificate and protocol; both sides see the client."""
    chosen: Any = {
        "tls": None,
        "only": {"protocol": "tls", "server_cert": str(place.local.certificate)},
        "roots": {
            "protocol": "tls",
            "trust_roots": str(place.local.certificate),
            "server_name": "here",
        },
        "tcp": {"protocol": "tcp"},
    }[delivery]
    plain = (sys.executable, SERVER, "program", PORT) if delivery == "tcp" else ()
    async with application(place), stealing(place, *plain, delivery=chosen) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client, "h2", "http/1.1")
        assert peer.tls.selected_alpn_protocol() == "http/1.1"
        assert peer.tls.getpeercert(True) == ssl.PEM_cert_to_DER_cert(place.made.certificate.read_text())
        for path in ("/hello", "/mine", "/mine/2", "/hello/2"):
            side = "program" if path.startswith("/mine") else "application"
            assert await asked(peer, get(path)) == f"{side} {path} {CLIENT[4]}".encode()
        peer.sock.close()
    assert await place.both.target.rules() == ""


async def test_both_versions_of_http_by_what_client_and_application_agree_on(place: Place) -> None:
    there, here = ((place.go, name, PORT) for name in ("application", "program"))
    curl = ("curl", "-ksS", "--max-time", "20", "-w", " %{http_version}")
    async with application(place, *there, *files(place.made)):
        async with stealing(place, *here, *files(place.local)) as program:
            await line(program.stdout, "up")
            for version, name in (("--http1.1", "1.1"), ("--http2", "2")):
                urls = [f"https://{HOST}:{PORT}/{path}" for path in ("yours", "mine", "yours")]
                found = (await ran(*inside(place.client.pid, *curl, version, *urls))).out
                said = f"HTTP/{name if name == '1.1' else '2.0'}"
                assert found == "".join(
                    f"{side} {said} /{path} {CLIENT[4]} {name}"
                    for side, path in (
                        ("application", "yours"),
                        ("program", "mine"),
                        ("application", "yours"),
                    )
                )


async def test_large_bodies_and_slow_readers(place: Place) -> None:
    body = os.urandom(BIG)
    expected = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    piece = bytes(range(256)) * 256
    async with application(place), stealing(place) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client)
        for path, side in (("/yours", "application"), ("/mine", "program")):
            assert await asked(peer, post(path, body)) == f"{side} {expected}".encode()
        peer.sock.setsockopt(1, 8, 1 << 14)  # a small buffer for what comes
        await peer.send(get(f"/big/{BIG}") + get(f"/mine/big/{BIG}"))
        other = await connected(place.client)
        assert await asked(other, get("/mine")) == f"program /mine {CLIENT[4]}".encode()
        data = bytearray()
        while data.count(b"\r\n\r\n") < 1:
            data += await peer.some()
        del data[: data.index(b"\r\n\r\n") + 4]
        data += await peer.exactly(BIG - len(data))
        assert bytes(data[:BIG]) == piece * (BIG // len(piece))
        for each in (peer, other):
            each.sock.close()


ODD = (
    b"get /Yours?a=%41&&b HTTP/1.1\r\nhOst:  web \r\nX-A: 1\r\nX-a:2\r\nContent-length: 3\r\n\r\nabc".replace(
        b"get", b"PUT"
    )
)
ANSWER = b"HTTP/1.1 299 Odd  words\r\nset-Cookie: a\r\nSet-Cookie:  b\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER += b"0003;x=y\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n"


async def test_what_is_not_ours_is_unchanged_both_ways(place: Place) -> None:
    heard: list[bytes] = []

    async def talks(peer: Peer) -> None:
        heard.append(await peer.exactly(len(ODD)))
        await peer.send(ANSWER)
        heard.append(await peer.exactly(1))
        await peer.end()

    async def once() -> list[bytes]:
        heard.clear()
        peer = await connected(place.client)
        await peer.send(ODD)
        answer = await peer.exactly(len(ANSWER))
        await peer.end()
        answer += await peer.exactly(1)
        peer.sock.close()
        return [*heard, answer]

    async with raw(place, talks):
        without = await once()
        assert without == [ODD, b"", ANSWER]
        async with stealing(place) as program:
            await line(program.stdout, "up")
            assert await once() == without


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_up_to_the_end_is_whole_only_with_close_notify(place: Place, whole: bool) -> None:
    async def talks(peer: Peer) -> None:
        await peer.some()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall there is")
        if whole:
            await peer.end()
        peer.sock.shutdown(1)
        with suppress(ssl.SSLError):
            await peer.some()

    async with raw(place, talks), stealing(place) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client)
        await peer.send(get("/yours"))
        if whole:
            assert (await peer.exactly(1000)).endswith(b"all there is")
        else:
            with pytest.raises(ssl.SSLEOFError):
                await peer.exactly(1000)
        peer.sock.close()


@pytest.mark.parametrize("first", ["application", "client"])
async def test_what_is_no_http_is_the_applications(place: Place, first: str) -> None:
    async def talks(peer: Peer) -> None:
        if first == "application":
            await peer.send(b"220 hello\r\n")
        while data := await peer.some():
            await peer.send(data.upper())
        await peer.end()

    async with raw(place, talks), stealing(place) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client)
        if first == "application":
            assert await peer.exactly(11) == b"220 hello\r\n"
        await peer.send(b"\1\2 some words")
        assert await peer.exactly(13) == b"\1\2 SOME WORDS"
        await peer.end()
        assert await peer.exactly(1) == b""
        peer.sock.close()


async def test_an_application_that_asks_for_certificates_is_left_alone(place: Place) -> None:
    own = certificate(place.folder / "own", "ann")
    curl = ("curl", "-ksS", "--max-time", "20", "--cert", own.certificate, "--key", own.key)
    async with application(place, place.go, "application", PORT, *files(place.made), "asks"):
        async with stealing(place) as program:
            await line(program.stdout, "up")
            for version in ("--tls-max 1.2", "--tlsv1.3"):
                command = (*curl, *version.split(), f"https://{HOST}:{PORT}/mine")
                found = await ran(*inside(place.client.pid, *command))
                assert found.out == f"application HTTP/2.0 /mine {CLIENT[4]} ann", found


async def test_another_certificate_than_the_applications(place: Place) -> None:
    """Its connections are left as they are, unless that is allowed."""
    other = certificate(place.folder / "other", "web")
    async with application(place):
        async with stealing(place, made=other) as program:
            await line(program.stdout, "up")
            peer = await connected(place.client)
            assert await asked(peer, get("/mine")) == f"application /mine {CLIENT[4]}".encode()
            peer.sock.close()
        async with stealing(place, made=other, application="any") as program:
            await line(program.stdout, "up")
            peer = await connected(place.client)
            assert await asked(peer, get("/mine")) == f"program /mine {CLIENT[4]}".encode()
            assert await asked(peer, get("/yours")) == f"application /yours {CLIENT[4]}".encode()
            peer.sock.close()


async def test_a_port_with_an_unfit_certificate_is_refused(place: Place) -> None:
    old = certificate(place.folder / "old", "web", days=(-3, -1))
    async with application(place), stealing(place, made=old) as program:
        said = await line(program.stderr, "has expired")
        assert f"port {PORT}" in said and f"agent.tls[0].certificate: the target's {old.certificate}" in said
        peer = await connected(place.client)
        assert await asked(peer, get("/mine")) == f"application /mine {CLIENT[4]}".encode()
        peer.sock.close()


@pytest.mark.parametrize("how", ["plain", "other"])
async def test_a_program_that_does_not_fit_the_delivery_is_named(place: Place, how: str) -> None:
    command = (sys.executable, SERVER, "program", PORT)
    delivery = {"protocol": "tls", "server_cert": str(place.made.certificate)}
    words = ("tls_delivery", "tcp") if how == "plain" else ("another certificate than server_cert", "")
    here = command if how == "plain" else (*command, *files(place.local))
    async with application(place), stealing(place, *here, delivery=delivery) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client)
        assert b"the local program took this request" in await asked(peer, get("/mine"))
        assert words[1] in await line(program.stderr, words[0])
        peer.sock.close()


async def test_files_that_change_are_used(place: Place) -> None:
    folder = place.folder / "rotated"
    shutil.rmtree(folder, ignore_errors=True)
    made = certificate(folder)
    async with raw(place, echo) as context, stealing(place, made=made) as program:
        context.load_cert_chain(*files(made))
        await line(program.stdout, "up")
        peer = await connected(place.client)
        assert await asked(peer, get("/mine")) == f"program /mine {CLIENT[4]}".encode()
        peer.sock.close()
        context.load_cert_chain(*files(certificate(folder)))
        new = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
        async with timeout(WITHIN):
            while True:
                peer = await connected(place.client)
                assert peer.tls.getpeercert(True) == new  # the application's own, until it is opened again
                await peer.send(get("/mine"))
                answer = await peer.some()
                peer.sock.close()
                if b"200 OK" in answer:
                    break
                await asyncio.sleep(0.2)


async def echo(peer: Peer) -> None:
    while data := await peer.some():
        await peer.send(data)


async def test_an_application_that_ended_its_idle_connection_is_asked_anew(place: Place) -> None:
    """The client began with requests that are the program's; its next one is answered all the same."""
    idle, ended = asyncio.Event(), asyncio.Event()

    async def talks(peer: Peer) -> None:
        if not idle.is_set():
            await idle.wait()
            await peer.end()
            ended.set()
            return
        await peer.exactly(len(get("/yours")))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nyours")
        await peer.some()

    async with raw(place, talks), stealing(place) as program:
        await line(program.stdout, "up")
        peer = await connected(place.client)
        assert await asked(peer, get("/mine")) == f"program /mine {CLIENT[4]}".encode()
        idle.set()
        async with timeout(WITHIN):
            await ended.wait()
        assert await asked(peer, get("/yours")) == b"yours"
        peer.sock.close()


def sockets(pid: int) -> int:
    """Of that process and of those it started."""
    found = 0
    for each in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        for number in Path(f"/proc/{each}/fd").iterdir():
            with suppress(FileNotFoundError):
                found += number.readlink().name.startswith("socket:")
    return found


async def test_nothing_is_left_of_connections_however_they_end(place: Place) -> None:
    own = ssl.create_default_context()

    async def untrusting() -> None:
        sock = await place.client.in_network(partial(_connected, HOST, PORT, 0))
        sock.setblocking(False)
        with pytest.raises(ssl.SSLCertVerificationError):
            await Peer(sock, own, "web").shake()
        sock.close()

    async def begun(data: bytes) -> None:
        sock = await place.client.in_network(partial(_connected, HOST, PORT, 0))
        sock.send(data)
        sock.close()

    async def spoken(path: str, ends: bool, resets: bool) -> None:
        peer = await connected(place.client)
        if path:
            await asked(peer, get(path))
        if ends:
            await peer.end()
        if resets:
            peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
        peer.sock.close()

    async with application(place), stealing(place) as program:
        await line(program.stdout, "up")
        await spoken("/mine", True, False)
        before = sockets(program.pid)
        for _ in range(5):
            await untrusting()
            await begun(b"\x16\x03\x01")
            await begun(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
            for path in ("", "/yours", "/mine"):
                for ends, resets in ((True, False), (False, False), (False, True)):
                    await spoken(path, ends, resets)
        async with timeout(WITHIN):
            while sockets(program.pid) > before:  # noqa: ASYNC110 -- what it waits for tells nobody
                await asyncio.sleep(0.1)
