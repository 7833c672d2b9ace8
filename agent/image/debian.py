"""Debian's part of the image: its Python and the libraries that Python and the wheels need.

The packages are unpacked, not installed: no maintainer script runs, here or in the image. What a package
is worth on a whole system and not here (documents, tests, tools) is taken out again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from platforms import PLATFORMS, Platform
from shell import cached, fail, run

LIBRARIES = (
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libuuid1 liblzma5 libbz2-1.0 libcrypt1"
    " libnftables1 libnftnl11 libmnl0 libjansson4 libgmp10 libxtables12"  # for the packet filter
).split()
UNNEEDED = (
    "test tests __pycache__ idlelib tkinter turtledemo ensurepip lib2to3 pydoc_data distutils unittest"
    " sqlite3"
).split()
PASSWD = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"


def platform() -> Platform:
    """This machine's row of the table."""
    name = run("dpkg", "--print-architecture").strip()
    if name not in PLATFORMS:
        raise fail(f"no image for {name}: agent/image/platforms.py knows {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def python_version() -> str:
    """The version of Debian's own python3, such as 3.11."""
    found = re.search(r"python(3\.\d+)-minimal", run("apt-cache", "show", "python3-minimal"))
    if found is None:
        raise fail("apt knows no python3-minimal; run apt-get update first")
    return found[1]


def unpack(root: Path, version: str) -> None:
    """Fetches the packages (the newest that apt knows) and unpacks them below root."""
    names = [f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib"]
    names += LIBRARIES
    versions = re.findall(r"Candidate: (\S+)", run("apt-cache", "policy", *names))
    if len(versions) != len(names):
        raise fail(f"apt does not know all of {', '.join(names)}; run apt-get update first")
    wanted = [f"{name}={number}" for name, number in zip(names, versions, strict=True)]
    for link in ("bin", "lib", "lib64", "sbin"):  # as on Debian: else a package's /lib would be a second one
        (root / "usr" / link).mkdir(parents=True)
        (root / link).symlink_to(f"usr/{link}")
    folder = cached("debian", wanted, "apt-get", "-q", "download", *wanted)
    for package in sorted(folder.glob("*.deb")):
        unpack_one(package, root)


def unpack_one(package: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        command: list[str | Path] = ["tar", "-x", "-C", root, "--keep-directory-symlink"]
        done = subprocess.run(command, stdin=archive.stdout, check=False)
    if archive.returncode or done.returncode:
        raise fail(f"{package} cannot be unpacked; delete it and build again")


def trim(root: Path, version: str, site: Path) -> None:
    """Takes out what an agent never opens, and makes the few files that Debian's scripts would have made."""
    for name in ("usr/share", "usr/lib/valgrind", "usr/sbin", "var", "etc"):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in root.joinpath("usr/lib").rglob("gconv"):
        shutil.rmtree(path)
    for top in (root / f"usr/lib/python{version}", site):
        for path in sorted(top.rglob("*"), reverse=True):
            if path.is_dir() and path.name in UNNEEDED and not path.is_symlink():
                shutil.rmtree(path)
            elif path.parent.suffix == ".dist-info" and path.name in (
                "direct_url.json",
                "RECORD",
                "REQUESTED",
            ):
                path.unlink()  # they name this machine's paths, or list what is not there any more
    for name in ("usr/sbin", "proc", "sys", "dev", "run", "tmp", "etc"):
        (root / name).mkdir()
    root.joinpath("tmp").chmod(0o1777)
    root.joinpath("etc/passwd").write_text(PASSWD)
    root.joinpath("etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    root.joinpath("usr/bin/python3").symlink_to(f"python{version}")
