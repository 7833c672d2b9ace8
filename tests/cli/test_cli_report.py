from __future__ import annotations

import errno
import io
import json

import pytest

from pymirror.cli.report import Json, Plain, Silent, Spinner, kind_of, make_report, words
from pymirror.core.call import Address, Bind, Call, Errno, OtherPath, Text, Untouched, Verdict
from pymirror.core.errors import UserError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def all_of(mode: str | None, out: io.StringIO) -> str:
    report = make_report(mode, out)
    report.step("asking [/x]")
    report.info("a detail")
    report.warn("careful [red]")
    report.ready(["one", "two [bold]"])
    report.trace(Call("open", b"/data/x"), Untouched("fs.mode read"))
    report.close()
    report.close()
    return out.getvalue()


@pytest.mark.parametrize("mode", [None, "std", "dumb", "simple"])
def test_plain_lines_away_from_a_terminal(mode: str | None) -> None:
    assert all_of(mode, io.StringIO()).splitlines() == [
        "pymirror: asking [/x]",
        "pymirror:   a detail",
        "pymirror: warning: careful [red]",
        "pymirror: one",
        "pymirror: two [bold]",
        "trace: open /data/x -> this machine (fs.mode read)",
    ]


def test_silence_keeps_warnings_and_what_was_asked_for() -> None:
    assert all_of("off", io.StringIO()).splitlines() == [
        "pymirror: warning: careful [red]",
        "trace: open /data/x -> this machine (fs.mode read)",
    ]


def test_json_lines() -> None:
    lines = [json.loads(line) for line in all_of("json", Terminal()).splitlines()]
    assert [line["type"] for line in lines] == ["step", "info", "warning", "ready", "trace"]
    assert lines[3]["summary"] == ["one", "two [bold]"]
    assert lines[4] == {
        "type": "trace",
        "call": "open",
        "path": "/data/x",
        "write": False,
        "verdict": "this machine",
        "reason": "fs.mode read",
    }


def test_a_spinner_on_a_terminal_leaves_the_steps_as_lines() -> None:
    said = all_of(None, Terminal())
    for text in ("asking", "a detail", "careful [red]", "two [bold]"):
        assert text in said


@pytest.mark.parametrize(
    ("mode", "terminal", "cls"),
    [
        (None, True, Spinner),
        ("standard", True, Spinner),
        ("dumb", True, Plain),
        ("json", False, Json),
        ("off", True, Silent),
        (None, False, Plain),
    ],
)
def test_modes(mode: str | None, terminal: bool, cls: type) -> None:
    assert type(make_report(mode, Terminal() if terminal else io.StringIO())) is cls


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match="progress mode 'loud' is not known"):
        make_report("loud")


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        (OtherPath("r", root=3, path=b"x"), "target"),
        (Bind("r", tries=(Address("127.0.0.1", 1),)), "target"),
        (Errno("r", code=errno.ENOENT), "ENOENT"),
        (Errno("r", code=9999), "9999"),
        (Text("r", value=b"x"), "answered"),
        (Untouched("r"), "this machine"),
        (Untouched("r", there=True), "target"),
    ],
)
def test_verdicts_in_words(verdict: Verdict, kind: str) -> None:
    assert kind_of(verdict) == kind
    assert words(Call("open", b"/a\xff", write=True), verdict) == f"open /a\\xff (to write) -> {kind} (r)"


@pytest.mark.parametrize("mode", [None, "json", "off"])
def test_a_reader_that_went_away_is_nobodys_error(mode: str | None) -> None:
    class Gone(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise BrokenPipeError(errno.EPIPE, "gone")

    out = Gone()
    assert all_of(mode, out) == ""
    assert out.writes > 0
