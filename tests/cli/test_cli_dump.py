"""`pymirror dump`: what is refused before anything is looked at, and what is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pymirror.cli import dump
from pymirror.cli.main import main
from pymirror.core.dumping import Order


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("PYMIRROR_", "MIRRORD_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-t", "pod/x", "-p", "0"], "-p 0: is no port"),
        (["-t", "pod/x", "-p", "80", "-p", "70000"], "-p 70000: is no port"),
        (["-t", "pod/x", "-p", "http"], "-p http: is no port"),
        (["-t", "pod/x", "-p", "80", "--count", "0"], "--count 0: is no number"),
        (["-t", "pod/x", "-p", "80", "--count", "-3"], "--count -3: is no number"),
        (["-t", "pod/x", "-p", "80", "--for", "nan"], "--for nan: is no number of seconds"),
        (["-t", "pod/x", "-p", "80", "--for", "-1"], "--for -1: is no number of seconds"),
        (["-t", "pod/x", "-p", "80", "--for", "ever"], "--for ever: is no number of seconds"),
        (["-p", "80"], "dump needs a target"),
        (["-t", "targetless", "-p", "80"], "dump needs a target"),
        (["-t", "pods/x", "-p", "80"], "--target: target 'pods/x': unknown kind"),
        (["-t", "process/1", "-p", "80", "--progress", "loud"], "progress mode 'loud' is not known"),
        (["-t", f"process/{os.getppid()}"], f"process {os.getppid()} ("),
        (["-t", "process/999999999", "-p", "80"], "target process/999999999: there is no such process"),
    ],
)
def test_what_is_wrong_is_said(capsys: Any, args: list[str], words: str) -> None:
    assert main(["dump", *args]) == 125
    said = capsys.readouterr()
    assert f"pymirror: error: {words}" in said.err and said.out == ""


def test_a_form_that_there_is_none_of(capsys: Any) -> None:
    assert main(["dump", "-t", "pod/x", "-p", "80", "--format", "xml"]) == 125
    assert "'text', 'hex', 'http'" in capsys.readouterr().err


def test_more_ports_than_can_be_had_are_refused_before_an_agent_starts(capsys: Any) -> None:
    ports = [word for port in range(1, 2000) for word in ("-p", str(port))]
    assert main(["dump", "-t", f"process/{os.getppid()}", *ports]) == 125
    assert "cannot be mirrored at once" in capsys.readouterr().err


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(settings: Any, order: Order, report: Any) -> int:
        asked.append((settings.target, order))
        return 7

    monkeypatch.setattr(dump, "_run", run)
    flags = "-p 80 --ports 81 -p 80 --format http --count 3 --for 1.5".split()
    assert main(["dump", "-t", "pod/x", *flags]) == 7
    assert main(["dump", "-t", "pod/x", "-p", "80"]) == 7
    assert asked == [("pod/x", Order((80, 81), "http", 3, 1.5)), ("pod/x", Order((80,)))]


def test_the_shell_completes_its_words(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PYMIRROR_COMPLETE", "bash_complete")
    for words, expected in (("pymirror du", "dump"), ("pymirror dump --format h", "http")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        try:
            main([])
        except SystemExit:
            pass
        assert f"plain,{expected}" in capsys.readouterr().out
