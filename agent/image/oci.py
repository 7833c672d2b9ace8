"""Writes a folder as an OCI archive, without a registry or a container daemon.

The same folder gives the same bytes: entries sorted, times zero, owner root, gzip without name and time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path


def layer(root: Path) -> bytes:
    """The folder as an uncompressed tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            info = tar.gettarinfo(str(path), arcname=str(path.relative_to(root)))
            if info.islnk():  # a hard link made by the package: written as a file of its own
                info.type, info.size = tarfile.REGTYPE, path.stat().st_size
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if info.isdir():  # but for /tmp, as the builder's umask had it
                info.mode = 0o1777 if info.mode & 0o1000 else 0o755
            if info.isfile():
                info.mode = 0o755 if info.mode & 0o100 else 0o644
                with path.open("rb") as data:
                    tar.addfile(info, data)
            else:
                tar.addfile(info)
    return out.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write(output: Path, root: Path, tag: str, architecture: str, config: dict[str, object]) -> str:
    """Writes the archive; returns the manifest's digest. architecture: in OCI's words, such as amd64."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, object]:
        blobs[digest(data)[7:]] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    plain = layer(root)
    files = {"type": "layers", "diff_ids": [digest(plain)]}
    described = {"architecture": architecture, "os": "linux", "config": config, "rootfs": files}
    body = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(encoded(described), "config.v1+json"),
        "layers": [blob(gzip.compress(plain, 6, mtime=0), "layer.v1.tar+gzip")],
    }
    manifest = blob(encoded(body), "manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}
    parts = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": encoded({"schemaVersion": 2, "manifests": [manifest]}),
        **{f"blobs/sha256/{name}": data for name, data in sorted(blobs.items())},
    }
    with tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(manifest["digest"])


def encoded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
