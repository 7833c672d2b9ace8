"""Certificates and keys in the target's files: what is refused, in which words, and what a change does."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tls_things import Made, certificate

from pymirror.features.network.incoming import credentials
from pymirror.features.network.incoming.credentials import Credentials, Unfit
from pymirror.features.network.incoming.tls_keys import Tls

pytestmark = pytest.mark.asyncio
PORT = 443


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    number = os.open(tmp_path, os.O_PATH)
    yield number
    os.close(number)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return certificate(tmp_path / "secret")


def of(root: int, certificate: str = "/secret/tls.crt", key: str = "/secret/tls.key") -> Credentials:
    return Credentials(root, [Tls([PORT], certificate, key)], logging.getLogger("tls"))


def shown(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def refused(held: Credentials) -> str:
    with pytest.raises(Unfit) as caught:
        await held.ready(PORT)
    assert held.get(PORT) is None
    held.close()
    return caught.value.strerror or ""


async def test_a_port_without_an_entry_needs_nothing(root: int) -> None:
    held = of(root)
    await held.ready(80)
    assert held.get(80) is None


async def test_links_within_the_target_are_followed_as_a_secret_has_them(
    root: int, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount/..data").symlink_to("/secret")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / "mount" / name).symlink_to(f"..data/{name}")
    held = of(root, "/mount/tls.crt", "/mount/tls.key")
    await held.ready(PORT)
    found = held.get(PORT)
    assert found is not None and found.known == {shown(made.certificate)}
    assert set(found.serving) == {None, "h2", "http/1.1"}
    held.close()


CRT, KEY = "agent.tls[0].certificate: the target's ", "agent.tls[0].key: the target's "


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        ("/none", "/secret/tls.key", f"{CRT}/none cannot be read: No such file or directory; see with `ls -l`"),
        ("/secret", "/secret/tls.key", f"{CRT}/secret is no file; name the file itself"),
        ("/pipe", "/secret/tls.key", f"{CRT}/pipe is no file; name the file itself"),
        ("/../../../../etc/hostname", "/secret/tls.key", f"{CRT}/../../../../etc/hostname cannot be read"),
        ("/secret/tls.key", "/secret/tls.key", f"{CRT}/secret/tls.key is no certificate; it must be PEM"),
        ("/junk", "/secret/tls.key", f"{CRT}/junk is no certificate; it must be PEM"),
        ("/broken", "/secret/tls.key", f"{CRT}/broken is no certificate; it must be PEM"),
        ("/large", "/secret/tls.key", f"{CRT}/large is too large; it may have 1 MiB"),
        ("/old/tls.crt", "/old/tls.key", f"{CRT}/old/tls.crt has expired; renew it"),
        ("/early/tls.crt", "/early/tls.key", f"{CRT}/early/tls.crt is not valid yet; renew it"),
        ("/secret/tls.crt", "/none", f"{KEY}/none cannot be read: No such file or directory"),
        ("/secret/tls.crt", "/junk", f"{KEY}/junk is no private key"),
        ("/secret/tls.crt", "/secret/tls.crt", f"{KEY}/secret/tls.crt is no private key"),
        ("/secret/tls.crt", "/old/tls.key", f"{KEY}/old/tls.key does not fit /secret/tls.crt; name the two"),
        ("/locked/tls.crt", "/locked/tls.key", f"{KEY}/locked/tls.key is encrypted; give the file of one"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_named(
    root: int, made: Made, tmp_path: Path, chain: str, key: str, words: str
) -> None:
    assert made.key.exists()
    for name, days, secret in (
        ("old", (-3, -1), b""),
        ("early", (1, 3), b""),
        ("locked", (-1, 3), b"secret"),
    ):
        certificate(tmp_path / name, days=days, secret=secret)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n")
    (tmp_path / "large").write_bytes(b"x" * (1 << 20 | 1))
    assert (await refused(of(root, chain, key))).startswith(words)


async def test_files_that_change_are_read_anew_and_the_last_that_fit_stay(
    root: int, made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = of(root)
    await held.ready(PORT)
    found = held.get(PORT)
    assert found is not None
    first, before = shown(made.certificate), found.serving
    await found.look_again()
    assert found.serving is before
    certificate(tmp_path / "next")
    shutil.copy(tmp_path / "next/tls.crt", made.certificate)
    await found.look_again()
    assert found.serving is before and not caplog.messages  # the other file may be on its way
    for _ in range(3):
        await found.look_again()
    (told,) = caplog.messages
    assert told.startswith(f"{KEY}/secret/tls.key does not fit") and told.endswith("is used on")
    shutil.copy(tmp_path / "next/tls.key", made.key)
    await found.look_again()
    assert found.serving is not before
    assert found.known == {first, shown(made.certificate)}
    held.close()


async def test_they_are_looked_at_by_themselves(
    root: int, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "EVERY", 0.01)
    held = of(root)
    await held.ready(PORT)
    found = held.get(PORT)
    assert found is not None
    before = found.serving
    certificate(tmp_path / "secret")
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if found.serving is not before:
            break
    assert shown(made.certificate) in found.known
    held.close()


async def test_no_word_of_a_key_is_told(root: int, made: Made, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = made.key.read_text().splitlines()[1]
    made.key.write_text(made.key.read_text().replace("PRIVATE KEY", "PRIVATE THING"))
    words = await refused(of(root))
    assert secret not in words and secret not in caplog.text
