"""What the presets of `feature.magic` add to the rules, after the user's own lists. Pure.

A volume of the target counts as if it were listed, but takes nothing that is the program's own: its folders,
the temporary folder, dot files in $HOME and this machine's system trees stay here where they lie in a volume,
or are one. So an emptyDir on /tmp or on the home folder harms nothing; a volume below /etc, or below the
program's own folder, is read. Names are compared exactly: they are the kernel's, not patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pymirror.features.fs.defaults import TREES, Here, ancestors


class Volumes:
    """`auto_mount`. points: where something is mounted in the target, `kept` those that stay here whole."""

    def __init__(self, points: Sequence[bytes], here: Here) -> None:
        named = [point.decode("utf-8", "surrogateescape").rstrip("/") for point in points]
        own = [here.temp, here.directory, *here.programs, *(path for path, _ in here.named), *TREES]
        self._own = {path.rstrip("/") for path in own} - {""}
        self._dots = f"{here.home}/." if here.home else ""
        self.points = [point for point in named if point]
        self.kept = [point for point in self.points if point in self._own]
        spelled = {also: point for point in self.points for also in _spellings(point)}
        self._read = {also: self._below(also) for also, point in spelled.items() if point not in self.kept}

    def __iter__(self) -> Iterator[str]:
        """Every path that begins a volume which is read."""
        return iter(self._read)

    def hit(self, path: str) -> str | None:
        """The words for a path in a volume that is read; None also where it is the program's own."""
        above = path
        while above and above not in self._read:
            above = above.rpartition("/")[0]
        return f"volume {shown(above)}" if above and not self._is_own(path, above) else None

    def _below(self, point: str) -> tuple[set[str], set[str]]:
        """The program's own trees in a volume, and the folders in it that lead there."""
        trees = {path for path in self._own if path.startswith(f"{point}/")}
        return trees, {path for path in ancestors(sorted(trees)) if path.startswith(f"{point}/")}

    def _is_own(self, path: str, point: str) -> bool:
        trees, folders = self._read[point]
        dots = self._dots.startswith(f"{point}/") and path.startswith(self._dots)
        return dots or path in folders or any(f"{path}/".startswith(f"{tree}/") for tree in trees)


def _spellings(point: str) -> tuple[str, ...]:
    """The kernel's name, and the one that programs use: /var/run is a link to /run nearly everywhere."""
    return (point, f"/var{point}") if point.startswith("/run/") else (point,)


def instead_of_aws(here: Here) -> str:
    """The folder that the program has for `$HOME/.aws`."""
    return f"{here.session or f'{here.temp}/pymirror-…'}/aws"


class Aws:
    """`aws`: instead of `$HOME/.aws` the program has a folder that is empty at first, and its own to write.

    It is the session's, private as that is, where mirrord has `.aws` in the temporary folder: there any other
    user of the machine could lay out a `credential_process`, which is a command that the SDK runs.
    """

    def __init__(self, here: Here) -> None:
        self.folder = f"{here.home}/.aws" if here.home else ""
        self._instead = instead_of_aws(here)

    def hit(self, path: str) -> str | None:
        if not self.folder or not f"{path}/".startswith(f"{self.folder}/"):
            return None
        return f"$HOME/.aws is {self._instead}"

    def moved(self, path: str) -> str:
        """What a path that was hit stands for."""
        return self._instead + path[len(self.folder) :]


def shown(path: str) -> str:
    """A path with surrogates for what is not UTF-8, as it may be printed."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
