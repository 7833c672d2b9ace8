"""Finding a container's first process: the choice as a table, the scan over a made-up /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymirror.agent.find import Candidate, bare_id, choose, find_container, names_container
from pymirror.core.errors import UserError

ID = "3f2a" * 16


@pytest.mark.parametrize(
    ("candidates", "pid"),
    [
        ([], None),
        # (pid, parent, pids, started)
        ([(40, 1, (40, 7), 9), (30, 1, (30, 1), 5)], 30),
        ([(30, 1, (30, 1), 5), (20, 30, (20, 9, 1), 4)], 30),
        ([(40, 30, (40,), 9), (30, 1, (30,), 5)], 30),
        ([(50, 2, (50,), 90), (30, 1, (30,), 5), (31, 30, (31,), 4)], 30),
        ([(1, 0, (1,), 5), (9, 0, (9,), 7)], 1),
    ],
    ids=["none", "pid 1", "container in it", "hostPID", "exec is younger", "shared namespace"],
)
def test_choose(candidates: list[tuple[int, int, tuple[int, ...], int]], pid: int | None) -> None:
    choice = choose([Candidate(*one) for one in candidates])
    assert (choice.pid if choice else None) == pid


@pytest.mark.parametrize(
    ("cgroup", "is_container"),
    [
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n", True),
        (f"0::/../../kubepods-pod1.slice/cri-containerd-{ID}.scope/init\n", True),
        (f"12:pids:/kubepods/burstable/pod1/{ID}\n0::/\n", True),
        (f"0::/kubepods.slice/crio-{ID}.scope/container\n", True),
        (f"0::/kubepods.slice/crio-conmon-{ID}.scope\n", False),
        (f"0::/system.slice/docker-{ID}.scope\n", True),
        (f"0::/kubepods/pod1/{ID}a\n", False),
        (f"0::/kubepods/pod1/a{ID}\n", False),
        ("0::/\n", False),
    ],
)
def test_names_container(cgroup: str, is_container: bool) -> None:
    assert names_container(cgroup, ID) is is_container


@pytest.mark.parametrize("given", [ID, f"containerd://{ID}", f"cri-o://{ID}", f"docker://{ID}"])
def test_scheme_is_cut(given: str) -> None:
    assert bare_id(given) == ID


@pytest.mark.parametrize("given", ["", "short", "containerd://", "../../../etc/passwd", "a" * 20 + "/b"])
def test_what_is_no_id_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="not a container's id"):
        bare_id(given)


def _process(proc: Path, pid: int, parent: int, pids: str, cgroup: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nNSpid:\t{pids}\n")
    (folder / "stat").write_text(f"{pid} (a) b) S " + " ".join(["0"] * 18) + f" {pid} 0\n")


def test_scan(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "77").mkdir()  # has ended: no cgroup any more
    _process(tmp_path, 5, 1, "5", "0::/init.scope\n")
    _process(tmp_path, 20, 8, "20\t14", f"0::/pods/cri-containerd-{ID}.scope\n")
    _process(tmp_path, 21, 8, "21\t1", f"0::/pods/cri-containerd-{ID}.scope\n")
    assert find_container(f"containerd://{ID}", str(tmp_path)).pid == 21


def test_scan_says_what_was_searched(tmp_path: Path) -> None:
    _process(tmp_path, 5, 1, "5", "0::/init.scope\n")
    with pytest.raises(UserError, match=rf"no process of the container {ID} among 1 in .*/\*/cgroup"):
        find_container(ID, str(tmp_path))
