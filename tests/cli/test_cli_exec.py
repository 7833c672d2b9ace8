from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from attrs import frozen

from pymirror.cli import exec as exec_command
from pymirror.cli.common import vocabulary, vocabulary_of
from pymirror.cli.exec import find_program
from pymirror.cli.main import main
from pymirror.cli.options import flags_of, option, place, session_flags
from pymirror.core.config import Flag, key
from pymirror.core.errors import PluginError, ProgramError
from pymirror.layer import main as layer


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("PYMIRROR_", "MIRRORD_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `layer.main.run` was called with; nothing is started."""
    calls: list[Any] = []

    async def run(settings: Any, argv: Sequence[str], executable: str, report: Any, trace: bool) -> int:
        calls.append((settings, list(argv), executable, trace))
        return 42

    monkeypatch.setattr(layer, "run", run)
    return calls


def test_the_program_and_its_arguments_are_its_own(ran: list[Any]) -> None:
    assert main(["exec", "-t", "pod/api", "--trace", "--", "sh", "-c", "--steal", "-f", "--", "x"]) == 42
    settings, argv, executable, trace = ran[0]
    assert argv == ["sh", "-c", "--steal", "-f", "--", "x"]
    assert os.path.isabs(executable) and executable.endswith("/sh")
    assert (settings.target, trace) == ("pod/api", True)


def test_without_dashes_the_programs_flags_are_its_own_too(ran: list[Any]) -> None:
    assert main(["exec", "-n", "shop", "sh", "-n", "x", "--help"]) == 42
    assert ran[0][1] == ["sh", "-n", "x", "--help"]
    assert ran[0][0].namespace == "shop"


def test_interrupted_while_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: Any) -> int:
        raise layer.Interrupted(2)

    monkeypatch.setattr(layer, "run", run)
    assert main(["exec", "true"]) == 130


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["exec"], 125, "Missing argument 'PROGRAM...'"),
        (["exec", "--nope", "true"], 125, "No such option"),
        (["exec", "--targt", "pod/a", "true"], 125, "Did you mean"),
        (["exce", "true"], 125, "No such command 'exce'. Did you mean exec?"),
        (["exec", "no-such-program"], 127, "no-such-program: not found in PATH"),
        (["exec", "./none"], 127, "./none: no such file"),
        (["exec", "./plain"], 126, "./plain: not executable"),
        (["exec", "/"], 126, "/: not executable"),
        (["exec", "plain"], 126, "plain: not executable"),
        (["exec", "-f", "--", "true"], 125, "-f without a path found no configuration file"),
        (["exec", "-f", "none.json", "true"], 125, "none.json: cannot be read: No such file or directory"),
        (["exec", "-f", "bad.json", "true"], 125, "bad.json: is not JSON: line 1, column 8"),
        (
            ["exec", "-f", "key.json", "true"],
            125,
            "key.json: feature.fs.mod: unknown key\n  did you mean 'mode'?",
        ),
        (["exec", "--fs-mode", "rite", "true"], 125, "--fs-mode: 'rite' is not one of"),
        (
            ["exec", "--steal", "true"],
            125,
            "feature.network.incoming.mode: there is nothing to steal from without a target",
        ),
        (["exec", "--agent-ttl", "x", "true"], 125, "--agent-ttl: expected a whole number, got 'x'"),
        (["exec", "--progress", "loud", "true"], 125, "progress mode 'loud' is not known"),
        (["exec", "-c", "--engine", "x", "true"], 125, "--engine: 'x' is not one of auto, seccomp"),
    ],
)
def test_refused_before_anything_is_created(
    args: list[str], status: int, words: str, ran: list[Any], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("plain").write_text("")
    Path("bad.json").write_text('{"a": 1')
    Path("key.json").write_text('{"feature": {"fs": {"mod": 1}}}')
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{os.getcwd()}")
    assert main(args) == status
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert not ran


def test_a_nested_session_is_refused(monkeypatch: pytest.MonkeyPatch, ran: list[Any], capsys: Any) -> None:
    monkeypatch.setenv("PYMIRROR_SESSION", "x")
    assert main(["exec", "true"]) == 125
    assert "already running under pymirror exec" in capsys.readouterr().err
    assert not ran


def test_the_program_is_found_as_execvp_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/tool", "tool"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    path = {"PATH": f"{tmp_path}/a:{tmp_path}"}
    assert find_program("tool", path) == f"{tmp_path}/tool"
    with pytest.raises(ProgramError) as caught:
        find_program("tool", {"PATH": f"{tmp_path}/a"})
    assert caught.value.exit_status == 126
    assert find_program(f"{tmp_path}/tool", {}) == f"{tmp_path}/tool"


def test_files_named_by_flag_variable_and_place(
    ran: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def used() -> str | None:
        return str(ran.pop()[0].target)

    Path("c.json").write_text('{"target": "pod/c"}')
    Path(".mirrord").mkdir()
    Path(".mirrord/mirrord.json").write_text('{"target": "pod/found", "telemetry": true}')
    main(["exec", "true"])
    assert used() == "None"  # no file is read unless asked for
    main(["exec", "-f", "c.json", "true"])
    assert used() == "pod/c"
    main(["exec", "-f", "--", "true"])
    assert used() == "pod/found"
    assert "warning: telemetry has no effect" in capsys.readouterr().err
    main(["exec", "-f", "-t", "pod/flag", "true"])
    assert used() == "pod/flag"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"target": "pod/stdin"}'))
    main(["exec", "-f", "-", "true"])
    assert used() == "pod/stdin"
    monkeypatch.setenv("MIRRORD_CONFIG_FILE", "c.json")
    main(["exec", "true"])
    assert used() == "pod/c"
    monkeypatch.setenv("PYMIRROR_CONFIG_FILE", ".mirrord/mirrord.json")
    main(["exec", "true"])
    assert used() == "pod/found"


def test_a_tool_that_only_asks_a_service_is_warned_about(ran: list[Any], capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    assert main(["exec", "./docker", "run"]) == 42
    assert "only talks to a service" in capsys.readouterr().err


# mirrord: 1.2, all but --ports, which is of another command
MIRRORDS = """
-t --target -n --target-namespace -a --agent-namespace -l --agent-log-level -i --agent-image --agent-ttl
--agent-startup-timeout -e --ephemeral-container --fs-mode -x --override-env-vars-exclude
-s --override-env-vars-include --env-file --no-remote-dns --no-outgoing --no-tcp-outgoing --no-udp-outgoing
--steal --skip-processes -c --accept-invalid-certificates --no-telemetry --disable-version-check -f
--config-file --context -k --key
""".split()


def test_all_flags_of_mirrord_are_there() -> None:
    command = exec_command.command
    known = {name for each in command.get_params(click.Context(command)) for name in each.opts}
    assert set(MIRRORDS) <= known


def test_flags_become_their_variables() -> None:
    flags = session_flags(vocabulary())
    for each in flags:
        text = each.flag.text if each.flag.text is not None else "v"
        said = flags_of({place(each.flag): (each.flag.text is None and "v") or True}, flags)
        assert said == {name: (text, each.flag.long) for name in each.variables}
    assert flags_of({"fs_mode": "local-with-overrides"}, flags) == {
        "FILE_MODE": ("localwithoverrides", "--fs-mode")
    }


@frozen
class Clock:
    zone: str = key("", env="CLOCK_ZONE", help="The zone.", flags=[Flag(("-z", "--zone"))])
    tick: bool = key(True, env="TICK", flags=[Flag(("--silent",), text="false", help="No sound.")])
    tock: bool = key(True, env="TOCK", flags=[Flag(("--silent",), text="false", help="No sound.")])


def test_a_third_party_has_flags_like_ours() -> None:
    flags = session_flags(vocabulary_of({"clock": Clock}, {}))
    assert flags_of({"zone": "UTC", "silent": True}, flags) == {
        "CLOCK_ZONE": ("UTC", "--zone"),
        "TICK": ("false", "--silent"),
        "TOCK": ("false", "--silent"),
    }
    (zone,) = [option(each.flag) for each in flags if "-z" in each.flag.names]
    assert (zone.opts, zone.help) == (["-z", "--zone"], "The zone.")


def test_a_feature_that_is_there_takes_mirrords_flag_over() -> None:
    @frozen
    class Network:
        dns: bool = key(
            True, env="REMOTE_DNS", flags=[Flag(("--no-remote-dns",), text="false", help="Ours.")]
        )

    flags = [
        each
        for each in session_flags(vocabulary_of({"dns": Network}, {}))
        if each.flag.long == "--no-remote-dns"
    ]
    assert [each.flag.help for each in flags] == ["Ours."]


def test_a_flag_of_two_is_refused_by_name() -> None:
    @frozen
    class Other:
        target: str = key("", env="OTHER", flags=[Flag(("-t", "--turn"))])

    with pytest.raises(
        PluginError, match=r"the flag --turn is declared by pymirror.core.root.Root.target and by"
    ):
        session_flags(vocabulary_of({"other": Other}, {}))


@pytest.mark.parametrize(
    ("args", "accepted"),
    [([], None), (["-c"], True), (["--accept-invalid-certificates"], True), (["-c=false"], False)],
)
def test_invalid_certificates(ran: list[Any], args: list[str], accepted: bool | None) -> None:
    assert main(["exec", *args, "-t", "pod/a", "true"]) == 42
    assert ran[0][0].runtime.accept_invalid_certificates is accepted


def test_flags_that_turn_off_what_is_not_there_are_accepted(ran: list[Any]) -> None:
    assert main(["exec", "--no-outgoing", "--no-remote-dns", "--no-telemetry", "-e", "true"]) == 42
    assert ran[0][0].runtime.ephemeral is True


def test_an_error_that_nobody_reads_keeps_its_status() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pymirror.cli.main", "exec", "-t", "none", "true"]
    with os.fdopen(writer, "wb") as unread:
        assert subprocess.run(command, stderr=unread, check=False).returncode == 125


def test_nothing_heavy_is_imported_for_the_configuration() -> None:
    code = (
        "import sys; from pymirror.cli.common import settings_of\n"
        "import pymirror.cli.exec, pymirror.layer.main\n"
        "settings_of({'target': 'pod/a'}, {})\n"
        "print([m for m in ('kubernetes', 'rich', 'yaml', 'jinja2', 'json5', 'websockets', 'cattrs') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
