"""The files that the program's resolvers read, in the session's private folder.

What is in them comes from lookupfiles.py. A file is replaced as a whole by a rename, so that whoever
reads it sees the old or the new one, and sees by its inode that it is another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pymirror.features.network.dns.lookupfiles import (
    Resolv,
    host_sources,
    merge_hosts,
    merge_nsswitch,
    parse_resolv,
)
from pymirror.features.network.dns.messages import HOSTS, NSSWITCH, PATHS, RESOLV, File
from pymirror.features.network.dns.names import Rules


class View:
    """folder: where to make them; here: this machine's own, path → content, None for what is not there."""

    def __init__(self, folder: str, here: dict[bytes, str | None]) -> None:
        self._folder, self._here = os.fsencode(folder), here
        self._target: dict[bytes, str | None] = dict.fromkeys(PATHS)
        self._shown: dict[bytes, str | None] = dict.fromkeys(PATHS)
        os.makedirs(self._place(RESOLV.rpartition(b"/")[0]), exist_ok=True)
        self.root = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """The files go with the session's folder."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1

    @property
    def resolv(self) -> Resolv:
        """The target's resolv.conf."""
        return parse_resolv(self._target[RESOLV] or "")

    @property
    def hosts(self) -> str:
        """What the program sees as /etc/hosts."""
        return self._shown[HOSTS] or ""

    @property
    def sources(self) -> str:
        """Where names are looked up, in order: files, dns."""
        return host_sources(self._target[NSSWITCH])

    def take(self, files: Iterable[File]) -> None:
        """These are the target's now. `show` has the program see them."""
        for file in files:
            if file.path in self._target:
                text = file.content.decode("utf-8", "surrogateescape")
                self._target[file.path] = text if file.there else None

    def show(self, rules: Rules) -> None:
        """Write what is different from before."""
        for path in PATHS:
            text = self._text(path, rules)
            if text != self._shown[path]:
                self._write(path, text)
                self._shown[path] = text

    def _text(self, path: bytes, rules: Rules) -> str | None:
        text = self._target[path]
        if path == NSSWITCH:
            return merge_nsswitch(text, self._here.get(path))
        if path == HOSTS and rules.words:
            return merge_hosts(text or "", self._here.get(path) or "", lambda name: rules.decide(name).here)
        return text

    def _place(self, path: bytes) -> bytes:
        return self._folder + path

    def _write(self, path: bytes, text: str | None) -> None:
        place = self._place(path)
        if text is None:
            os.unlink(place)
            return
        with open(os.open(place + b".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: the program may change its user
            file.write(text.encode("utf-8", "surrogateescape"))
        os.rename(place + b".new", place)
