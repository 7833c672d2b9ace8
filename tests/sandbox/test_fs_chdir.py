"""A session: programs that make a folder of the target their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from pymirror.runtimes.process.sandbox import FILES, Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
SCRIPT = """
cd /data && pwd -P && cat greeting.txt
cd sub/deep && pwd -P && cat file && cd ../.. && ls
cd /data/link && pwd -P && cd -P .. && cat file
cd /data/none; cd /data/greeting.txt; echo x > /data/sub/new; echo x > new; mkdir new
cd /tmp && pwd -P
"""


@pytest.fixture
async def command() -> AsyncIterator[list[str]]:
    files = {**FILES, "/data/sub/deep/file": b"deep\n", "/data/sub/file": b"upper\n"}
    async with Sandbox.start(files, links={"/data/link": "/data/sub/deep"}) as sandbox:
        yield [sys.executable, "-c", START, "exec", "--progress", "off", "-t", f"process/{sandbox.pid}", "--"]


def test_a_shell_goes_into_the_targets_folders(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "bash", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False, cwd="/tmp"
    )
    assert done.stdout.splitlines() == [
        *(
            "/data",
            "hello from the pod",
            "/data/sub/deep",
            "deep",
            "greeting.txt",
            "link",
            "store.json",
            "sub",
        ),
        *("/data/sub/deep", "upper", "/tmp"),
    ]
    assert [line.rpartition(": ")[2] for line in done.stderr.splitlines()] == [
        *("No such file or directory", "Not a directory", "No such file or directory"),
        *("Read-only file system", "Read-only file system"),
    ]
