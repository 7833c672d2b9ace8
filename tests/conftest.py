"""What a tier needs: a missing part skips it with the reason, except in CI, where nothing may be skipped.

Tiers run in order: what needs nothing first, then the sandbox, the image and the cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

TIERS = ("sandbox", "image", "cluster")
CLUSTER_TOOLS = "containerd runc ctr nft openssl gcc ip unshare busybox".split()
IMAGE_TOOLS = "apt-get apt-cache dpkg dpkg-deb tar".split()
CI = os.environ.get("CI") == "true"


# Started by nohup or behind a shell's `&`, these would be ignored here and in every program the tests start.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def tier(item: pytest.Item) -> int:
    """The last of the tiers that the test belongs to; 0 for a test that needs nothing."""
    return max((n for n, name in enumerate(TIERS, 1) if item.get_closest_marker(name)), default=0)


def missing(item: pytest.Item) -> str:
    """What the test's tiers need and this machine lacks, in words; empty when nothing."""
    lacks: list[str] = []
    marks = {mark.name for mark in item.iter_markers()}
    if marks & {"sandbox", "cluster"}:
        lacks += [] if os.geteuid() == 0 else ["root"]
        lacks += [] if Path("/dev/fuse").exists() else ["/dev/fuse"]
    tools = (CLUSTER_TOOLS if "cluster" in marks else []) + (IMAGE_TOOLS if "image" in marks else [])
    return ", ".join(lacks + [tool for tool in tools if shutil.which(tool) is None])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=tier)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if lacks := missing(item):
        pytest.skip(f"needs {lacks}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module that skips itself, or `importorskip` at its top, is no test of its own."""
    report = yield
    refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    why: Any = report.longrepr
    if CI and report.skipped:
        report.outcome, report.longrepr = "failed", f"CI must run this test: {why[2]}"


@pytest.fixture(scope="session")
def clock_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agent's image with the example's half is, once built: the image tier's serves the cluster's."""
    return tmp_path_factory.mktemp("clock-image") / "clock.tar"
