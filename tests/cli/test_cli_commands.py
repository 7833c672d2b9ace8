from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pymirror.cli import main as entry
from pymirror.cli.main import COMMANDS, main
from pymirror.cli.questions import FORMS, calls
from pymirror.core import configfile
from pymirror.core.call import Address, Call
from pymirror.core.errors import ClusterError
from pymirror.runtimes.kubernetes import listing


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("PYMIRROR_", "MIRRORD_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def answer(capsys: Any, *args: str) -> tuple[int, Any]:
    status = main(["verify-config", *args])
    return status, json.loads(capsys.readouterr().out)


def test_verify_success(capsys: Any) -> None:
    Path("c.yaml").write_text("target: {deployment: api, namespace: shop}\ntelemetry: true\n")
    status, said = answer(capsys, "c.yaml")
    assert status == 0
    assert said["type"] == "Success"
    assert said["config"] == {"path": "deployment/api", "namespace": "shop"}
    assert {"env", "hostname", "fs"} <= set(said["features"])
    assert said["warnings"] == ["telemetry has no effect: nothing is ever sent"]
    assert "resolved" not in said


def test_verify_shows_the_resolved_values(capsys: Any) -> None:
    Path("c.json").write_text('{"agent": {"ttl": 7}, "feature": {"hostname": false, "fs": "local"}}')
    _, said = answer(capsys, "c.json", "--resolved", "--ide")
    assert said["warnings"] == []
    assert said["resolved"]["runtime"]["kubernetes"]["ttl"] == 7
    assert said["resolved"]["feature"]["fs"]["mode"] == "local"
    assert "hostname" not in said["resolved"]["feature"]


def test_verify_without_a_target_warns(capsys: Any) -> None:
    Path("c.json").write_text("{}")
    assert answer(capsys, "c.json")[1]["warnings"] == ["no target is set: the agent would run without one"]


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("{", "c.json: is not JSON: line 1", "comments"),
        ('{"agnt": {}}', "c.json: agnt: unknown key", "did you mean 'agent'?"),
        ('{"target": "api"}', "c.json: target: target 'api' names no kind", "write pod/api"),
        (
            '{"target": "process/x"}',
            "c.json: target: target process/x: a process is named process/PID",
            "for example",
        ),
        (
            '{"target": "podd/x"}',
            "c.json: target: target 'podd/x': unknown kind 'podd'",
            "did you mean pod/x?",
        ),
        ('{"target": ""}', "c.json: target: the target is empty", "write pod/NAME"),
    ],
)
def test_verify_fail(capsys: Any, text: str, words: str, hint: str) -> None:
    Path("c.json").write_text(text)
    status, said = answer(capsys, "c.json")
    assert (status, said["type"]) == (1, "Fail")
    assert said["errors"][0].startswith(words)
    assert said["hints"][0].startswith(hint)


@pytest.mark.parametrize(
    ("flags", "variable", "words"),
    [
        (["-t", "pods/a"], "", "--target: target 'pods/a': unknown kind 'pods'"),
        (["-t", ""], "pod/a", "--target: the target is empty"),
        ([], "pods/a", "PYMIRROR_IMPERSONATED_TARGET: target 'pods/a': unknown kind"),
    ],
)
def test_a_wrong_target_is_told_with_its_place(
    capsys: Any, monkeypatch: Any, flags: list[str], variable: str, words: str
) -> None:
    monkeypatch.setenv("PYMIRROR_IMPERSONATED_TARGET", variable)
    assert main(["exec", *flags, "--", "true"]) == 125
    assert capsys.readouterr().err.startswith(f"pymirror: error: {words}")


def test_a_target_of_two_kinds_is_one_error(capsys: Any) -> None:
    Path("c.json").write_text('{"target": {"pod": "a", "deployment": "b"}}')
    assert len(answer(capsys, "c.json")[1]["errors"]) == 1


def test_verify_tells_all_that_is_wrong(capsys: Any) -> None:
    Path("c.json").write_text('{"agnt": {}, "feature": {"fs": {"mod": 1}, "env": {"exclud": 1}}}')
    _, said = answer(capsys, "c.json")
    assert [words.split(": ")[1] for words in said["errors"]] == [
        "feature.env.exclud",
        "feature.fs.mod",
        "agnt",
    ]
    assert main(["explain", "-f", "c.json", "hostname"]) == 125
    assert capsys.readouterr().err.count("pymirror: error: c.json: ") == 3


def test_verify_without_a_path_looks_as_a_bare_f_does(capsys: Any) -> None:
    assert answer(capsys)[0] == 1
    Path(".mirrord").mkdir()
    Path(configfile.DISCOVERED[-1]).write_text('{"target": "pod/x"}')
    assert answer(capsys)[1]["config"]["path"] == "pod/x"


def test_verify_prints_the_schema(capsys: Any) -> None:
    status, said = answer(capsys, "--schema")
    assert status == 0
    assert {"target", "feature", "agent", "key"} <= set(said["properties"])


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (
            ["path", "/etc/hosts"],
            [
                "read /etc/hosts: target (network.dns: resolvers read the target's)",
                "write /etc/hosts: this machine (fs.local default: tree /etc)",
            ],
        ),
        (
            ["path", "/data/x/../y"],
            ["read /data/y: target (fs.mode read)", "write /data/y: this machine (fs.mode read)"],
        ),
        (["--fs-mode", "local", "path", "/data/x"], None),
        (
            ["-f", "c.json", "path", "/data/gone"],
            [
                "read /data/gone: ENOENT (fs.not_found ^/data/gone)",
                "write /data/gone: ENOENT (fs.not_found ^/data/gone)",
            ],
        ),
        (
            ["-f", "c.json", "path", "/old/x"],
            [
                "read /old/x: target (fs.mode read; mapped by ^/old to /data/x)",
                "write /old/x: this machine (fs.mode read; mapped by ^/old to /data/x)",
            ],
        ),
        (["-f", "c.json", "name", "db"], ["name db: this machine (network.dns.filter.local db)"]),
        (["name", "api"], ["name api: target (network.dns: no filter)"]),
        (["env", "PATH"], ["env PATH: this machine (env default exclude PATH)"]),
        (["-f", "c.json", "env", "A"], ["env A: answered (env.override)"]),
        (["-f", "c.json", "hostname"], ["hostname: this machine (no feature claims it)"]),
    ],
)
def test_explain(args: list[str], lines: list[str] | None, capsys: Any) -> None:
    Path("c.json").write_text(
        '{"feature": {"hostname": false, "env": {"override": {"A": "1"}}, '
        '"network": {"dns": {"filter": {"local": "db"}}}, '
        '"fs": {"not_found": "^/data/gone", "mapping": {"^/old": "/data"}}}}'
    )
    assert main(["explain", *args]) == 0
    said = capsys.readouterr().out.splitlines()
    if lines is None:
        assert all(": this machine (" in line for line in said)
    else:
        assert said == lines


@pytest.mark.parametrize(
    ("address", "lines"),
    [
        ("tcp://db:5432", ["connect tcp db:5432: target (outgoing.filter remote 'db')"]),
        (
            "10.1.2.3:80",
            [
                "connect tcp 10.1.2.3:80: target (outgoing.filter remote 'tcp://10.0.0.0/8')",
                "connect udp 10.1.2.3:80: target (outgoing.filter: depends on the addresses of db)",
            ],
        ),
        ("udp://[::1]:0", ["connect udp [::1]:0: this machine (outgoing: port 0)"]),
        (
            "TCP://[::ffff:10.1.2.3]:80",
            ["connect tcp 10.1.2.3:80: target (outgoing.filter remote 'tcp://10.0.0.0/8')"],
        ),
        ("tcp://DB.:5432", ["connect tcp DB.:5432: target (outgoing.filter remote 'db')"]),
        ("unix:///run/x", ["connect unix /run/x: target (outgoing.unix_streams '^/run/')"]),
        ("unix://@x", ["connect unix @x: this machine (outgoing.unix_streams: no pattern matches @x)"]),
    ],
)
def test_explain_address(address: str, lines: list[str], capsys: Any) -> None:
    outgoing = {"filter": {"remote": ["tcp://10.0.0.0/8", "db"]}, "unix_streams": ["^/run/"]}
    Path("c.json").write_text(json.dumps({"feature": {"network": {"outgoing": outgoing}}}))
    assert main(["explain", "-f", "c.json", "address", address]) == 0
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(
    ("network", "args", "lines"),
    [
        (
            {},
            ["address", "tcp://10.0.0.1:53", "udp://127.0.0.53:53"],
            [
                "connect tcp 10.0.0.1:53: target (network.dns: port 53)",
                "connect udp 127.0.0.53:53: target (network.dns: port 53)",
            ],
        ),
        (
            {"dns": False},
            ["address", "tcp://192.0.2.53:53"],
            ["connect tcp 192.0.2.53:53: this machine (outgoing.filter local '192.0.2.0/24')"],
        ),
        (
            {"outgoing": False},
            ["address", "udp://192.0.2.53:53", "tcp://192.0.2.53:54"],
            [
                "connect udp 192.0.2.53:53: target (network.dns: port 53)",
                "connect tcp 192.0.2.53:54: this machine (no feature claims it)",
            ],
        ),
        (
            {"outgoing": {"tcp": False, "udp": False, "filter": {"local": ["db"]}}},
            ["name", "db"],
            ["name db: target (network.dns: no filter)"],
        ),
    ],
)
def test_explain_asks_who_a_session_would_ask_in_its_order(
    network: dict[str, Any], args: list[str], lines: list[str], capsys: Any
) -> None:
    network = {"outgoing": {"filter": {"local": ["192.0.2.0/24"]}}, **network}
    Path("c.json").write_text(json.dumps({"feature": {"network": network}}))
    assert main(["explain", "-f", "c.json", *args]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_explain_name_counts_the_outgoing_filter(capsys: Any) -> None:
    Path("c.json").write_text('{"feature": {"network": {"outgoing": {"filter": {"local": ["db:5432"]}}}}}')
    assert main(["explain", "-f", "c.json", "name", "db", "db.shop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "name db: this machine (network.outgoing.filter.local db:5432)",
        "name db.shop: target (network.outgoing.filter.local: no entry is db.shop; "
        "this machine if shop is in the target's search list: db:5432)",
    ]


@pytest.mark.parametrize(
    ("what", "argument", "words"),
    [
        ("address", "", "is empty"),
        ("address", "db", "has no port"),
        ("address", "[::1]", "has no port"),
        ("address", ":80", "has no host"),
        ("address", "ftp://db:80", "the protocol 'ftp' is not one of tcp, udp, unix"),
        ("address", "://db:80", "the protocol '' is not one of tcp, udp, unix"),
        ("address", "db:http", "'http' is no port, which is a number up to 65535"),
        ("address", "db:", "'' is no port"),
        ("address", "db:70000", "'70000' is no port"),
        ("address", "db:-1", "'-1' is no port"),
        ("address", "[zz::1]:80", "'[zz::1]' is no IPv6 address in brackets"),
        ("address", "[10.0.0.1]:80", "brackets are for IPv6 addresses"),
        ("address", "[::1:80", "'[::1' is no host's name or address"),
        ("address", "fd00::1:80", "an IPv6 address stands in brackets"),
        ("address", "10.0.0.0/8:80", "'10.0.0.0/8' is no host's name or address"),
        ("address", "10.0.0.256:80", "'10.0.0.256' is no host's name or address"),
        ("address", "*.shop:80", "'*.shop' is no host's name or address"),
        ("address", "unix://", "has no path"),
        ("address", "unix://@", "has no path"),
        ("bind", "8080", "has no port"),
        ("bind", "localhost:80", "'localhost' is no address"),
        ("bind", "tcp://0.0.0.0:80", "'tcp://0.0.0.0' is no host's name"),
        ("name", "", "is empty"),
        ("name", "db:5432", "is no host's name"),
        ("name", "tcp://db", "is no host's name"),
        ("name", "*.shop", "is no host's name"),
        (
            "name",
            "10.0.0.7",
            "an address is never looked up; its reverse lookup asks for 7.0.0.10.in-addr.arpa",
        ),
        ("path", "", "is empty"),
        ("env", "", "is empty"),
        ("env", "A=1", "is no variable's name"),
    ],
)
def test_explain_refuses_what_it_cannot_read(what: str, argument: str, words: str, capsys: Any) -> None:
    good = {"address": "db:80", "name": "db", "path": "/data", "env": "HOME", "bind": "[::]:80"}[what]
    assert main(["explain", what, good, argument]) == 125
    said = capsys.readouterr()
    first, hint = said.err.splitlines()
    assert said.out == ""
    assert first.startswith(f"pymirror: error: explain {what}: {argument!r}: {words}")
    assert hint == f"  {FORMS[what]}"


def test_explain_bind_asks_as_a_program_that_listens() -> None:
    asked = Call("bind", transport="tcp", address=Address("::", 8080))
    assert calls("bind", ("[::]:8080",)) == [("[::]:8080", asked)]


def test_explain_hostname_takes_no_name(capsys: Any) -> None:
    assert main(["explain", "hostname", "x"]) == 125
    assert "'x' is too much" in capsys.readouterr().err


def test_a_bad_filter_is_refused_before_anything_starts(capsys: Any) -> None:
    Path("c.json").write_text(
        '{"feature": {"network": {"outgoing": {"filter": {"local": ["db", "x://y"]}}}}}'
    )
    assert main(["exec", "-f", "c.json", "-t", "pod/api", "--", "true"]) == 125
    words = capsys.readouterr().err
    assert (
        "feature.network.outgoing.filter.local: entry 2, 'x://y': the protocol is one of tcp, udp, any"
        in words
    )


def test_explain_needs_a_name(capsys: Any) -> None:
    assert main(["explain", "path"]) == 125
    assert "explain path needs at least one name" in capsys.readouterr().err
    assert main(["explain", "moon", "x"]) == 125


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    async def list_targets(
        config: Any, namespace: str | None, kinds: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        calls.append((config, namespace, kinds))
        return [{"path": "pod/a", "available": True}, {"path": "deployment/b", "available": False}]

    monkeypatch.setattr(listing, "list_targets", list_targets)
    return calls


def test_ls(listed: list[Any], capsys: Any) -> None:
    assert main(["ls", "-o", "json", "-n", "shop", "--target-type", "pod", "--context", "kind"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {"path": "pod/a", "available": True}
    config, namespace, kinds = listed[0]
    assert (config.kube_context, namespace, kinds) == ("kind", "shop", ("pod",))
    assert main(["ls"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["TARGET", "AVAILABLE"], ["pod/a", "yes"], ["deployment/b", "no"]]


def test_ls_asks_the_cluster_whatever_the_target_is(
    listed: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PYMIRROR_IMPERSONATED_TARGET", "process/1")
    assert main(["ls", "-o", "json"]) == 0
    assert hasattr(listed[0][0], "kube_context")


def test_ls_has_only_the_flags_that_matter_to_it(capsys: Any) -> None:
    assert main(["ls", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--target-namespace", "--context", "--config-file", "--accept-inv"))
    assert not any(flag in said for flag in ("--fs-mode", "--agent-ttl", "--steal", "--engine", "--target "))


def test_ls_shows_the_clusters_words(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def list_targets(*_: Any) -> Any:
        raise ClusterError("no answer", "look")

    monkeypatch.setattr(listing, "list_targets", list_targets)
    assert main(["ls"]) == 125
    assert capsys.readouterr().err == "pymirror: error: no answer\n  look\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if shell == "bash":  # click asks the installed bash for its version
        monkeypatch.setattr(
            "click.shell_completion.BashComplete._check_version", staticmethod(lambda: None), raising=False
        )
    assert main(["completions", shell]) == 0
    assert "_PYMIRROR_COMPLETE" in capsys.readouterr().out
    assert main(["completions", "tcsh"]) == 125


def test_help_lists_the_commands_and_imports_none(capsys: Any) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0


def test_version_and_wrong_usage(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pymirror 0")
    assert main(["moon"]) == 125
    assert main([]) == 125


def test_debugging_is_of_pymirror_alone(tmp_path: Path) -> None:
    """Libraries that log what they send would write the token of the kubeconfig."""
    shown = "import logging; logging.getLogger('pymirror.x').debug('ours'); logging.getLogger('websockets.client').debug('> Authorization: Bearer')"
    code = f"import sys; from pymirror.cli.main import main; main(['--version']); {shown}"
    environ = {**os.environ, "PYMIRROR_LOG": "debug"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, text=True, capture_output=True, check=True
    )
    assert "ours" in done.stderr
    assert "Bearer" not in done.stderr


def test_the_log_level_is_checked(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PYMIRROR_LOG", "loud")
    assert main(["explain", "hostname"]) == 125
    assert "PYMIRROR_LOG=loud: not a level" in capsys.readouterr().err


def test_a_fault_of_ours_is_125_with_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr(entry.group, "main", broken)
    assert main(["ls"]) == 125
    said = capsys.readouterr().err
    assert "ZeroDivisionError: here" in said
    assert "a fault in pymirror" in said


def test_the_installed_command(tmp_path: Path) -> None:
    done = subprocess.run(
        ["pymirror", "exec", "no-such-program"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"},  # type: ignore[attr-defined]
    )
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr.splitlines() == [
        "pymirror: error: no-such-program: not found in PATH",
        "  nothing was created; check the program's name",
    ]
