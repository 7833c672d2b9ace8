"""Programs in many languages reach servers that only the target's network has."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import build, tool

from tests.sandbox.pod_network import PROGRAMS, Pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

REACHED = "10.77.0.1:7001"


@pytest.mark.parametrize("compiler", [["gcc"], ["musl-gcc", "-static"]], ids=["glibc", "musl"])
async def test_c(there: Pod, tmp_path: Path, compiler: list[str]) -> None:
    program = tmp_path / "outgoing"
    await build(*compiler, "-O1", "-o", program, PROGRAMS / "outgoing.c")
    ran = await there.run(program, "10.77.0.1", 7001, "127.0.0.1", 7001, "10.77.0.1", 7099, "10.78.0.1", 80)
    assert ran.out.splitlines() == [
        "10.77.0.1:7001 1 ping",
        "127.0.0.1:7001 1 ping",
        "refused",
        "unreachable",
    ], ran


async def test_static_go(there: Pod, tmp_path: Path) -> None:
    program = tmp_path / "outgoing"
    await build("go", "build", "-o", program, PROGRAMS / "outgoing.go", CGO_ENABLED="0")
    ran = await there.run(program, REACHED, "[fd77::1]:7001", "10.77.0.1:7099", "10.78.0.1:80")
    assert ran.out.splitlines() == [
        "10.77.0.1:7001 true ping",
        "[fd77::1]:7001 true ping",
        "connection refused",
        "no route to host",
        "7010 go 10.77.0.1:7010 <nil>",
    ], ran


async def test_node(there: Pod) -> None:
    ran = await there.run(tool("node"), PROGRAMS / "outgoing.js", REACHED, "10.77.0.1:7099", "10.78.0.1:80")
    assert ran.out.splitlines() == [
        "10.77.0.1:7001 true ping",
        "ECONNREFUSED",
        "EHOSTUNREACH",
        "7010 node 10.77.0.1:7010",
    ], ran


TURBO = """
const net = require("net"), { fork, spawn } = require("child_process")
const [role, port] = process.argv.slice(2)
if (role === "worker") {
  net.connect(port, "127.0.0.1").on("data", (data) => process.stdout.write(`${data}`)).on("error", (e) => console.log(e.code))
} else {
  const server = net.createServer((socket) => socket.end("bundler\\n")).listen(0, "127.0.0.1", () => {
    const words = [__filename, "worker", server.address().port]
    spawn(process.execPath, words, { env: {}, detached: true, stdio: "inherit" }).on("exit", () => {
      fork(__filename, words.slice(1)).on("exit", () => server.close())
    })
  })
}
"""


async def test_a_bundlers_workers_reach_it_on_loopback(there: Pod, tmp_path: Path) -> None:
    """As Turbopack has them: a port the kernel chose, workers of another process group without an environment."""
    (tmp_path / "turbo.js").write_text(TURBO)
    ran = await there.run(tool("node"), tmp_path / "turbo.js")
    assert ran.out == "bundler\nbundler\n", ran


async def test_java(there: Pod, tmp_path: Path) -> None:
    await build("javac", "-d", tmp_path, PROGRAMS / "Outgoing.java")
    ran = await there.run(tool("java"), "-cp", tmp_path, "Outgoing", REACHED, "10.77.0.1:7099")
    assert ran.out.splitlines() == [
        "10.77.0.1:7001 true ping",
        "Connection refused",
        "10.77.0.1:7001",
        "7010 java 10.77.0.1:7010",
    ], ran


@pytest.mark.parametrize("options", [[], ["--tcp-fastopen"]], ids=["plain", "fast open"])
async def test_curl(there: Pod, options: list[str]) -> None:
    words = (tool("curl"), "-sS", "--noproxy", "*", *options)
    ran = await there.run(*words, "http://10.77.0.1:7080/", "http://[fd77::1]:7080/")
    assert ran.out == "from the pod\n" * 2, ran
