"""The one importer of libnftables: transactions on the packet filter of one network namespace.

A context is a netlink socket, and belongs to the namespace of the thread that makes it. A table with `flags
owner` belongs to that socket: the kernel removes it when the context is closed, and however the agent ends.
Make it, use it and close it by `Target.in_network`: those threads have NET_ADMIN, the others do not. Before
0.9.9 the library would reopen its socket behind our back, which would cost the table.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import threading
from typing import Any

LIBRARY = "libnftables.so.1"
_JSON = 1 << 4
_ONE = threading.Lock()
"""The library bears two threads no better when each has a context of its own: it aborts the process."""
_CODES = (errno.EPERM, errno.EOPNOTSUPP, errno.EEXIST, errno.ENOENT, errno.EBUSY)


class NftError(OSError):
    """What the kernel or the library says against commands; nothing of them was done."""


class Nft:
    """One context. Its methods may be called from any thread in the namespace."""

    def __init__(self) -> None:
        """OSError: no such library, or no socket."""
        self._library = library()
        with _ONE:
            self._context = self._library.nft_ctx_new(0)
            if not self._context:
                raise OSError(errno.EIO, f"{LIBRARY} gives no context")
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> None:
        """All of the commands, a line each as `nft -f` takes them, in one transaction, or none. NftError."""
        self._run(commands, 0)

    def list(self, command: str) -> list[dict[str, Any]]:
        """What a `list` command tells, as libnftables-json(5) has it. NftError.

        Not of tables: 1.0.6 reads beyond its memory when it tells of a table's owner.
        """
        found: list[dict[str, Any]] = json.loads(self._run(command, _JSON))["nftables"]
        return found

    def close(self) -> None:
        """What the context owns is gone when this returns."""
        with _ONE:
            context, self._context = self._context, None
            if context:
                self._library.nft_ctx_free(context)

    def _run(self, commands: str, flags: int) -> str:
        with _ONE:
            context, called = self._context, self._library
            if not context:
                raise NftError(errno.EBADF, "the context is closed")
            called.nft_ctx_output_set_flags(context, flags)
            failed = called.nft_run_cmd_from_buffer(context, commands.encode())
            output = called.nft_ctx_get_output_buffer(context)
            words = called.nft_ctx_get_error_buffer(context)
        if failed:
            raise refusal(words.decode("utf-8", "replace"))
        return str(output.decode())


def refusal(words: str) -> NftError:
    """The library's words, of which the first line has the kernel's, as an error. Pure."""
    first = words.partition("\n")[0].removeprefix("Error: ") or "no reason given"
    code = next((code for code in _CODES if os.strerror(code) in first), errno.EIO)
    return NftError(code, first)


@functools.cache
def library() -> Any:
    """The library, with the types of what is called. OSError: it is not here, or cannot be loaded."""
    try:
        found = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise OSError(errno.ENOENT, f"{LIBRARY} cannot be loaded: {error}") from error
    found.nft_ctx_new.restype = ctypes.c_void_p
    for name, *more in (
        ("nft_ctx_buffer_output",),
        ("nft_ctx_buffer_error",),
        ("nft_ctx_free",),
        ("nft_ctx_get_output_buffer",),
        ("nft_ctx_get_error_buffer",),
        ("nft_ctx_output_set_flags", ctypes.c_uint),
        ("nft_run_cmd_from_buffer", ctypes.c_char_p),
    ):
        getattr(found, name).argtypes = [ctypes.c_void_p, *more]
    found.nft_ctx_free.restype = found.nft_ctx_output_set_flags.restype = None
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(found, name).restype = ctypes.c_char_p
    return found
