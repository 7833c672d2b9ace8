"""A FUSE file system mounted, as a descriptor of its top.

With CAP_SYS_ADMIN it is attached nowhere: fsmount(2) gives a descriptor, no path of it exists, and
the kernel drops it with the last descriptor, however pymirror ends. Without, fusermount3 mounts it
on a private folder, which the guard unmounts should pymirror be killed.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import errno
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable

from attrs import frozen

from pymirror.core.errors import SupportError
from pymirror.core.syscalls import syscall

_FLAG, _STRING, _CREATE = 0, 1, 6
_CLOEXEC = 1
_MOUNT_ATTR = 0x2 | 0x4 | 0x10  # nosuid, nodev, noatime
_EMPTY_PATH, _DONT_SYNC = 0x1000, 0x4000
_STX_DEV = 136 // 4  # where struct statx has stx_dev_major, in words
DEVICE = "/dev/fuse"
log = logging.getLogger("pymirror.fs")
_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Mount:
    """device: where requests come from. root: of the tree's top. path: where it is visible, or empty."""

    device: int
    root: int
    path: str = ""


def check() -> None:
    """SupportError naming what this machine lacks for a FUSE mount. Changes nothing."""
    if not os.path.exists(DEVICE):
        raise SupportError(
            f"files need {DEVICE}, which is not here",
            "in a container start it with --device /dev/fuse; or set feature.fs to false",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise SupportError(
            f"files need {DEVICE}, which this user may not open", f"chmod 666 {DEVICE} as root"
        )
    if _may_mount():
        _try()
        return
    if shutil.which("fusermount3") is None:
        raise SupportError(
            "files need fusermount3, which is not installed",
            "install the package fuse3, or set feature.fs to false",
        )
    if os.geteuid() == 0:  # fusermount3 gains nothing by being setuid
        raise SupportError(
            "files need the right to mount, which this root has not",
            "start the container with --cap-add SYS_ADMIN as well, or set feature.fs to false",
        )


def _try() -> None:
    """Make a mount that is attached nowhere, and let go of it."""
    try:
        made = _detached()
    except OSError as error:
        raise SupportError(
            f"files need a FUSE mount, which {DEVICE} does not give here: {error.strerror}",
            f"is {DEVICE} the kernel's own device (character, 10:229)? Else set feature.fs to false",
        ) from error
    os.close(made.device)
    os.close(made.root)


def mount(folder: str, visible: Callable[[str], None], writable: bool = False, name: str = "target") -> Mount:
    """Mount; `visible` is told the path first when there will be one, `name` in `folder`.

    SupportError, OSError.
    """
    if _may_mount():
        return _detached()
    return _by_helper(os.path.join(folder, name), visible, writable)


async def unmount(made: Mount) -> None:
    """End it at once: requests still waiting fail, descriptors of files in it become useless."""
    os.close(made.device)
    if made.path:
        await asyncio.to_thread(
            subprocess.run,
            ["fusermount3", "-u", "-z", made.path],
            capture_output=True,
            timeout=10,
            check=False,
        )
    os.close(made.root)


def _may_mount() -> bool:
    try:
        os.close(syscall("fsopen", b"fuse", _CLOEXEC))
    except OSError:
        return False
    return True


def _detached() -> Mount:
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    context = -1
    try:
        context = syscall("fsopen", b"fuse", _CLOEXEC)
        options = {
            "source": "pymirror",
            "fd": device,
            "rootmode": "40000",
            "user_id": os.getuid(),
            "group_id": os.getgid(),
        }
        for name, value in options.items():
            syscall("fsconfig", context, _STRING, name.encode(), str(value).encode(), 0)
        # The program may change its user (gunicorn, nginx) and still reads what the target shows.
        syscall("fsconfig", context, _FLAG, b"allow_other", None, 0)
        syscall("fsconfig", context, _CREATE, None, None, 0)
        return Mount(device, syscall("fsmount", context, _CLOEXEC, _MOUNT_ATTR))
    except OSError:
        os.close(device)
        raise
    finally:
        if context >= 0:
            os.close(context)


def read_ahead(made: Mount, size: int) -> None:
    """Let the kernel ask for `size` bytes at once when a file is read in order; as root only.

    A mount begins with 128 KiB and cannot ask for more, so it takes eight requests for what crosses
    the channel as one. Without the right it stays so: slower, and nothing else.
    """
    try:
        with open(f"/sys/class/bdi/{_device_of(made.root)}/read_ahead_kb", "w", encoding="ascii") as file:
            file.write(str(size >> 10))
    except OSError as error:
        log.debug("the kernel's read-ahead stays as it is: %s", error)


def connection(made: Mount) -> int:
    """The number the kernel gives the connection (fusectl): the file system's device, major 0."""
    return int(_device_of(made.root).partition(":")[2])


def _device_of(fd: int) -> str:
    """major:minor of the file system `fd` is on; DONT_SYNC, for who asks is who would have to answer."""
    got = (ctypes.c_uint32 * 64)()
    if _libc.statx(fd, b"", _EMPTY_PATH | _DONT_SYNC, 0, ctypes.byref(got)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return f"{got[_STX_DEV]}:{got[_STX_DEV + 1]}"


def _by_helper(path: str, visible: Callable[[str], None], writable: bool) -> Mount:
    access = "rw" if writable else "ro"
    os.mkdir(path, 0o700)
    visible(path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["fusermount3", "-o", f"{access},nosuid,nodev,fsname=pymirror,subtype=pymirror", "--", path],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        if done.returncode != 0:
            raise SupportError(f"fusermount3 could not mount: {done.stderr.strip()}", "its package is fuse3")
        device = _received(ours)
    os.set_blocking(device, False)
    os.set_inheritable(device, False)
    return Mount(device, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path)


def _received(ours: socket.socket) -> int:
    ours.settimeout(10)
    size = array.array("i").itemsize
    _, extra, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(size))
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return int.from_bytes(data[:size], "little", signed=True)
    raise OSError(errno.EPROTO, "fusermount3 sent no descriptor")
