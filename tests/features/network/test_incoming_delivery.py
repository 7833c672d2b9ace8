"""How what came by TLS reaches the program: by which name, whom it trusts, and what is told where it fails."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from incoming_scene import exactly, pair
from tls_things import Made, Peer, certificate, serving

from pymirror.core.errors import UserError
from pymirror.core.limit import timeout
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.delivery import Deliveries
from pymirror.features.network.incoming.layer import Layer
from pymirror.features.network.incoming.messages import Arrived
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.tls_keys import Delivery

LOG = logging.getLogger("delivery")
PLAIN = Arrived(443, "10.1.1.1", 4000, "10.1.1.2", 443)
SEALED = Arrived(443, "10.1.1.1", 4000, "10.1.1.2", 443, tls=True, server_name="web", alpn="http/1.1")


class Scene:
    """The door's other end is the program's, the stream's the agent's."""

    def __init__(self, chosen: Delivery | None, arrived: Arrived = SEALED) -> None:
        door, self.program = pair()
        inner, self.agent = pair()
        self.over = asyncio.Event()
        self.joined = Deliveries(chosen, LOG)(arrived, door, Pipe(inner), self.over.set)

    async def goes_through(self, program: Peer | None) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.agent, b"asked")
        if program is None:
            assert await exactly(self.program, 5) == b"asked"
        else:
            assert await program.exactly(5) == b"asked"
            await program.send(b"answer")
            assert await exactly(self.agent, 6) == b"answer"

    async def close(self) -> None:
        self.joined.cancel()
        async with timeout(20):
            await self.over.wait()
        self.program.close()
        self.agent.close()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return certificate(tmp_path, "here")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("chosen", "arrived"), [(None, PLAIN), (Delivery("tcp"), SEALED), (Delivery("tls"), PLAIN)]
)
async def test_bytes_as_they_are(chosen: Delivery | None, arrived: Arrived) -> None:
    scene = Scene(chosen, arrived)
    await scene.goes_through(None)
    await scene.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "web"),
        ({"server_name": "here"}, "here"),
        ({"trust_roots": "file", "server_name": "here"}, "here"),
        ({"trust_roots": "folder", "server_name": "here"}, "here"),
        ({"server_cert": ""}, "web"),
    ],
)
async def test_tls_with_the_clients_name_or_the_chosen_one(
    made: Made, more: dict[str, Any], name: str
) -> None:
    path = str(made.certificate)
    made.certificate.with_suffix(".pem").write_text(made.certificate.read_text())
    roots = [str(made.certificate.parent) if more.get("trust_roots") == "folder" else path]
    filled: dict[str, Any] = {"trust_roots": roots} if "trust_roots" in more else {}
    filled |= {"server_cert": path} if "server_cert" in more else {}
    context, asked = serving(made, "h2", "http/1.1"), []
    context.sni_callback = lambda _tls, said, _context: asked.append(said)
    scene = Scene(Delivery("tls", **{**more, **filled}))
    program = await Peer(scene.program, context).shake()
    assert (asked, program.tls.selected_alpn_protocol()) == ([name], "http/1.1")
    await scene.goes_through(program)
    await scene.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["root", "name", "certificate"])
async def test_a_program_that_is_not_trusted_is_told_and_gets_nothing(
    made: Made, tmp_path: Path, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = str(made.certificate), str(certificate(tmp_path / "other", "here").certificate)
    scene = Scene(
        {
            "root": Delivery("tls", trust_roots=[other], server_name="here"),
            "name": Delivery("tls", trust_roots=[own], server_name="elsewhere"),
            "certificate": Delivery("tls", server_cert=other),
        }[by]
    )
    await asyncio.get_running_loop().sock_sendall(scene.agent, b"asked")
    program = Peer(scene.program, serving(made))
    with pytest.raises(OSError):
        await program.shake()
        await program.some()
    async with timeout(20):
        await scene.over.wait()
    (told,) = caplog.messages
    assert told.startswith("port 443: TLS with the program failed: ") and "{protocol: tcp}" in told
    await scene.close()


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("server_cert", None, "cannot be read: No such file"),
        ("server_cert", "junk", "has no certificate (PEM)"),
        ("trust_roots", None, "cannot be read: No such file"),
        ("trust_roots", "junk", "has no certificate (PEM)"),
        ("trust_roots", "", "has no certificate (PEM)"),
    ],
)
def test_files_that_are_none_are_refused_before_anything_begins(
    tmp_path: Path, key: str, content: str | None, words: str
) -> None:
    path = tmp_path / "file"
    if content == "":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    given = {key: [str(path)] if key == "trust_roots" else str(path)}
    with pytest.raises(UserError) as caught:
        Layer.check(Config(mode="steal", tls_delivery=Delivery("tls", **given)))
    assert f"feature.network.incoming.tls_delivery.{key}: {path} {words}" in caught.value.message
