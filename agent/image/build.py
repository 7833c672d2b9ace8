"""Builds the agent's image as an OCI archive: build.py [--output FILE] [--tag NAME] [--with PACKAGE]…

Prints the archive's path and the manifest's digest; building the same inputs twice gives the same digest.
Only the standard library, pip and a C compiler are used: it runs before anything of pymirror is installed.
"""

from __future__ import annotations

import argparse
import configparser
import tempfile
from pathlib import Path

import debian
import oci
import rootfs
from wheels import CHECKOUT

CONFIG: dict[str, object] = {
    "Entrypoint": ["/usr/bin/python3", "-m", "pymirror.agent"],
    "Env": ["PATH=/usr/bin", f"PYTHONPATH=/{rootfs.SITE}", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
    "User": "0",
    "WorkingDir": "/",
}


def version() -> str:
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    return setup["metadata"]["version"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=CHECKOUT / "dist/pymirror-agent.tar")
    parser.add_argument("--tag", default=f"localhost/pymirror-agent:{version()}")
    parser.add_argument("--with", dest="extra", action="append", default=[], metavar="PACKAGE")
    asked = parser.parse_args()
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pymirror-image-") as work:
        root = rootfs.make(Path(work), asked.extra)
        digest = oci.write(asked.output, root, asked.tag, debian.platform().oci, CONFIG)
    print(f"{asked.output} {asked.output.stat().st_size / 1e6:.1f} MB {asked.tag} {digest}")


if __name__ == "__main__":
    main()
