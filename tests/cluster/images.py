"""Images of the cluster's pods, made without a registry: OCI archives of one layer, written here."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from place import BIN, DIR, run

Entry = tuple[tarfile.TarInfo, bytes]
OCI = "application/vnd.oci.image"
BUSYBOX = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"


def regular(name: str, data: bytes, mode: int = 0o755) -> Entry:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data)
    return info, data


def folder(name: str, mode: int = 0o755) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def link(name: str, to: str) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, to, 0o777
    return info, b""


def packed(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def blob(data: bytes, kind: str) -> dict[str, Any]:
    """How an OCI document names data that lies beside it."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": f"{OCI}.{kind}", "digest": digest, "size": len(data)}


def encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def image(path: Path, name: str, entries: list[Entry], config: Mapping[str, Any]) -> None:
    """Writes an OCI archive of these entries; config: Cmd, Env, User and so on."""
    layer = packed(entries)
    named = blob(layer, "layer.v1.tar")
    files = {"type": "layers", "diff_ids": [named["digest"]]}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[run("uname", "-m").strip()]
    about = encoded({"architecture": machine, "os": "linux", "config": config, "rootfs": files})
    kind = "manifest.v1+json"
    parts = {"config": blob(about, "config.v1+json"), "layers": [named]}
    manifest = encoded({"schemaVersion": 2, "mediaType": f"{OCI}.{kind}", **parts})
    named_so = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [{**blob(manifest, kind), "annotations": named_so}]}
    blobs = [regular(f"blobs/sha256/{hashlib.sha256(d).hexdigest()}", d) for d in (layer, about, manifest)]
    layout = regular("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    path.write_bytes(packed([layout, regular("index.json", encoded(index)), *blobs]))


def base_images() -> None:
    """localhost/pause:1, the sandbox of every pod, and localhost/busybox:1."""
    images = DIR / "images"
    images.mkdir()
    pause = [regular("pause", (BIN / "pause").read_bytes())]
    image(images / "pause.tar", "localhost/pause:1", pause, {"Entrypoint": ["/pause"], "User": "65535:65535"})
    image(images / "busybox.tar", "localhost/busybox:1", busybox(), BUSYBOX)


def busybox() -> list[Entry]:
    """A root with busybox and nothing else."""
    program = Path("/bin/busybox")
    entries = [folder(name) for name in ("bin", "etc", "proc", "sys", "dev", "root", "var")]
    entries += [folder("tmp", 0o1777), regular("bin/busybox", program.read_bytes())]
    entries += [link(f"bin/{a}", "busybox") for a in run(program, "--list").split() if a != "busybox"]
    entries += [regular("etc/passwd", PASSWD, 0o644)]
    entries += [regular("etc/host.conf", b"multi on\n", 0o644)]  # as in Debian's images: glibc reads it
    return [*entries, regular("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)]


def programs_image(path: Path, name: str, programs: Iterable[Path]) -> None:
    """busybox, and these static programs in the root."""
    added = [regular(program.name, program.read_bytes()) for program in programs]
    image(path, name, [*busybox(), *added], BUSYBOX)


def load(node: str, path: str | Path) -> None:
    run("ctr", "-a", DIR / node / "containerd.sock", "-n", "k8s.io", "images", "import", path)
