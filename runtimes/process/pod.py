"""Inside the sandbox: builds a pod-like root and becomes its first process.

Run as `python pod.py` with the order (JSON) on stdin; it says `{"pid": N}` or `{"error": …}` on
stdout and ends when stdin closes: then the kernel kills everything in it, and as nothing but
new namespaces was ever changed, nothing remains. Only the standard library is imported.
Files of the pod live in a tmpfs of its own; the machine's programs are bound read-only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_KINDS = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A step of building the sandbox failed."""


def main() -> int:
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    try:
        _separate()
    except Failed as failure:
        _say(error=str(failure))
        return 125
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(reading)
        _first_process(order, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        words = pipe.read()  # closed by exec: empty is success
    if words:
        os.waitpid(first, 0)
        _say(error=words)
        return 125
    _say(pid=first)
    return _guard(first)


def _separate() -> None:
    """New namespaces; also a user namespace where this process has not the rights otherwise."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_KINDS) == 0:
        return
    if ctypes.get_errno() != errno.EPERM:
        raise Failed(f"unshare: {os.strerror(ctypes.get_errno())}")
    if _libc.unshare(_KINDS | _CLONE_NEWUSER) != 0:
        raise Failed(
            f"namespaces may not be made here ({os.strerror(ctypes.get_errno())}): run as root, or allow "
            "user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
        )
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            # Bytes: a codec would be imported now, from a folder this user may no longer read.
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:
                file.write(text.encode())
        except OSError as error:  # root without capabilities may not map itself (Linux 5.12)
            raise Failed(f"the user {uid} may not be mapped into a user namespace: {error}") from error


def _guard(first: int) -> int:
    """Wait for the end of stdin or of the first process; the sandbox is gone when this returns."""
    pidfd = os.pidfd_open(first)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    return 0


def _first_process(order: dict[str, Any], failure: int) -> NoReturn:
    try:
        _prctl_die_with_parent()
        os.setsid()
        _build(order)
        arguments = [os.fsencode(part) for part in order["command"]]
        environ = {os.fsencode(name): os.fsencode(value) for name, value in order["environ"].items()}
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        if order["uid"]:
            os.setgid(order["uid"])
            os.setuid(order["uid"])
            _prctl_die_with_parent()  # a change of user clears it
        os.execve(arguments[0], arguments, environ)
    except BaseException as error:
        os.write(failure, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(125)


def _build(order: dict[str, Any]) -> None:
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # In this mount namespace alone: the machine's /tmp is not touched.
    _mount("pod", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    _bind_system("/tmp")
    for name in ("proc", "dev", "tmp", "etc", "old"):
        os.mkdir(f"/tmp/{name}")
    os.chmod("/tmp/tmp", 0o1777)
    for name in _DEVICES:
        with open(f"/tmp/dev/{name}", "wb"):
            pass
        _mount(f"/dev/{name}", f"/tmp/dev/{name}", None, _MS_BIND)
    _mount("proc", "/tmp/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _write_files("/tmp", order["files"], order["links"])
    _pivot("/tmp", order["pivot_root"])
    name = order["hostname"].encode()
    if _libc.sethostname(name, len(name)) != 0:
        raise OSError(ctypes.get_errno(), "sethostname")
    _loopback_up()


def _bind_system(top: str) -> None:
    for name in _SYSTEM:
        source, place = f"/{name}", f"{top}/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), place)
        elif os.path.isdir(source):
            os.mkdir(place)
            _mount(source, place, None, _MS_BIND | _MS_REC)
            # Flags a user namespace has inherited are locked: they must be named again.
            inherited = os.statvfs(place).f_flag & ~_MS_RDONLY
            _mount("none", place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | inherited)


def _write_files(top: str, files: dict[str, str], links: dict[str, str]) -> None:
    """files: path → content in latin-1 (one character a byte). links: path → target."""
    for path, content in files.items():
        place = os.fsencode(top + path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content.encode("latin-1"))
    for path, target in links.items():
        place = os.fsencode(top + path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(os.fsencode(target), place)


def _pivot(top: str, number: int) -> None:
    """number: of pivot_root on this machine's processor, as in core/syscalls.py."""
    os.chdir(top)
    if number < 0:
        raise Failed(f"pivot_root has no known number on {os.uname().machine}")
    if _libc.syscall(number, b".", b"old") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    if _libc.umount2(b"/old", _MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "umount of the machine's root")
    os.rmdir("/old")


def _loopback_up() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, get_flags, request))[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def _mount(source: str, place: str, kind: str | None, flags: int, data: str = "") -> None:
    made = _libc.mount(
        source.encode(), place.encode(), kind.encode() if kind else None, flags, data.encode() or None
    )
    if made != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount of {source} on {place}: {os.strerror(code)}")


def _prctl_die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    sys.exit(main())
