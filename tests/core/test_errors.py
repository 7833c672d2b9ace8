"""Errors carry the place, the next step and the shell's exit status."""

from __future__ import annotations

import pytest

from pymirror.core.errors import ConfigError, PluginError, ProgramError, PymirrorError


@pytest.mark.parametrize(
    ("error", "words", "status"),
    [
        (PymirrorError("broken"), "broken", 125),
        (PymirrorError("broken", "mend it"), "broken\n  mend it", 125),
        (ConfigError("feature.fs.mode", "is 7"), "feature.fs.mode: is 7", 125),
        (PluginError("pkg", "fails", "remove it"), "pkg: fails\n  remove it", 125),
        (ProgramError("not found"), "not found", 127),
        (ProgramError("not executable", exit_status=126), "not executable", 126),
    ],
)
def test_words_and_status(error: PymirrorError, words: str, status: int) -> None:
    assert (str(error), error.exit_status) == (words, status)
