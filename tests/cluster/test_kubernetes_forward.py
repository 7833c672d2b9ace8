"""Our port-forward and kubectl's, to the same pod: the same bytes, the same end."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pymirror.core.errors import PymirrorError
from pymirror.runtimes.kubernetes.api import Api
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.forward import PROTOCOL, Forward
from pymirror.runtimes.kubernetes.resources import PODS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ECHO = ["sh", "-c", "exec busybox nc -ll -p 7000 -e cat"]


@asynccontextmanager
async def ours(
    cluster: Any, namespace: str, port: int, errors: list[PymirrorError]
) -> AsyncIterator[Forward]:
    api = await Api.open(Config(kubeconfig=str(cluster.kubeconfig)))
    place = PODS.at(namespace, "echo", "portforward")

    async def dial() -> Any:
        return await api.dial("create", place, {"ports": str(port)}, (PROTOCOL,))

    forward = Forward(dial, port, errors.append)
    await forward.start()
    try:
        yield forward
    finally:
        await forward.aclose()
        await api.aclose()


@asynccontextmanager
async def kubectls(cluster: Any, namespace: str, port: int) -> AsyncIterator[int]:
    """kubectl's port-forward; the port it listens on."""
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "port-forward", "-n", namespace, "pod/echo", f":{port}"),
        env={**os.environ, **cluster.variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        found = re.search(rb"127\.0\.0\.1:(\d+)", line)
        assert found, line
        yield int(found.group(1))
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("offered", [(PROTOCOL,), ("v5.channel.k8s.io", PROTOCOL)])
async def test_v4_is_what_a_node_speaks(
    cluster: Any, namespace: str, make_pod: Callable[..., None], offered: tuple[str, ...]
) -> None:
    make_pod("echo", command=ECHO)
    async with asked(cluster, namespace, offered) as opened:
        assert opened.subprotocol == PROTOCOL


async def test_v5_alone_is_refused(cluster: Any, namespace: str, make_pod: Callable[..., None]) -> None:
    """As soon as this fails, nodes speak v5 and its close signal can be used."""
    make_pod("echo", command=ECHO)
    with pytest.raises(PymirrorError):
        async with asked(cluster, namespace, ("v5.channel.k8s.io",)):
            pass


@asynccontextmanager
async def asked(cluster: Any, namespace: str, protocols: tuple[str, ...]) -> AsyncIterator[Any]:
    """A port-forward that was opened offering these protocols."""
    api = await Api.open(Config(kubeconfig=str(cluster.kubeconfig)))
    try:
        place = PODS.at(namespace, "echo", "portforward")
        async with await api.dial("create", place, {"ports": "7000"}, protocols) as opened:
            yield opened
    finally:
        await api.aclose()


async def enter(forward: Forward) -> Ends:
    return await asyncio.open_unix_connection("\0" + forward.address.removeprefix("ipc://@"))


async def there_and_back(ends: Ends, sent: bytes) -> bytes:
    reader, writer = ends
    writer.write(sent)
    found = await asyncio.wait_for(reader.readexactly(len(sent)), 60)
    writer.close()
    return found


async def test_the_same_bytes(cluster: Any, namespace: str, make_pod: Callable[..., None]) -> None:
    make_pod("echo", command=ECHO)
    sent, errors = os.urandom(8_000_000), list[PymirrorError]()
    async with ours(cluster, namespace, 7000, errors) as forward:
        ends = [await enter(forward) for _ in range(4)]
        assert await asyncio.gather(*(there_and_back(each, sent) for each in ends)) == [sent] * 4
    async with kubectls(cluster, namespace, 7000) as port:
        assert await there_and_back(await asyncio.open_connection("127.0.0.1", port), sent) == sent
    assert errors == []


async def test_a_port_where_nobody_listens(
    cluster: Any, namespace: str, make_pod: Callable[..., None]
) -> None:
    make_pod("echo", command=ECHO)
    errors: list[PymirrorError] = []
    async with ours(cluster, namespace, 7001, errors) as forward:
        reader, writer = await enter(forward)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    async with kubectls(cluster, namespace, 7001) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        try:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        except ConnectionResetError:  # kubectl closed before it had read what we sent
            pass
        writer.close()
    assert "cannot forward port 7001" in errors[0].message
    assert "refused" in errors[0].message


async def test_the_far_end_closes(cluster: Any, namespace: str, make_pod: Callable[..., None]) -> None:
    make_pod("echo", command=["sh", "-c", "exec busybox nc -ll -p 7000 -e echo bye"])
    errors: list[PymirrorError] = []
    async with ours(cluster, namespace, 7000, errors) as forward:
        reader, writer = await enter(forward)
        assert await asyncio.wait_for(reader.read(), 20) == b"bye\n"
        writer.close()
    async with kubectls(cluster, namespace, 7000) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 20) == b"bye\n"
        writer.close()
    assert errors == []
