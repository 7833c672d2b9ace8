"""`feature.magic` in the rules: which volumes of the target are read, what stays the program's own, ~/.aws."""

from __future__ import annotations

import pytest

from pymirror.core.call import Call, Untouched
from pymirror.features.fs.config import Config
from pymirror.features.fs.defaults import Here
from pymirror.features.fs.layer import Layer
from pymirror.features.fs.rules import Decision, Place, Rules
from pymirror.features.fs.volumes import of_volumes

HERE = Here(
    home="/home/ann",
    temp="/tmp",
    directory="/work/project",
    programs=["/srv/py/bin/python", "/srv/py"],
    named=[("/work/lib", "PYTHONPATH /work/lib"), ("/opt/go", "GOPATH /opt/go")],
    session="/tmp/pymirror-1",
)
VOLUMES = [
    *(b"/data", b"/etc/app", b"/etc/key", b"/usr/share/site", b"/work", b"/work/project/conf", b"/srv/py"),
    *(b"/tmp", b"/home/ann", b"/opt", b"/run/secrets/own", b"/\xff"),
]
T, H, N = Place.TARGET, Place.HERE, Place.NOWHERE


def rules(has_target: bool = True, volumes: list[bytes] = VOLUMES, **config: object) -> Rules:
    return Rules(Config(**{"auto_mount": True, **config}), HERE, has_target, volumes)


def decide(path: str, write: bool = False, **config: object) -> Decision:
    return rules(**config).decide(path.encode(), write)


@pytest.mark.parametrize(
    ("path", "place", "rule"),
    [
        ("/etc/app", T, "magic auto_mount: volume /etc/app"),
        ("/etc/app/x.py", T, "magic auto_mount: volume /etc/app"),
        ("/etc/apps", H, "local default: tree /etc"),
        ("/etc/key", T, "magic auto_mount: volume /etc/key"),
        ("/etc/key2", H, "local default: tree /etc"),
        ("/ETC/app", H, "local default: tree /etc"),
        ("/usr/share/site/index", T, "magic auto_mount: volume /usr/share/site"),
        ("/data/x", T, "magic auto_mount: volume /data"),
        ("/other", T, "mode read"),
        ("/run/secrets/own/token", T, "magic auto_mount: volume /run/secrets/own"),
        ("/var/run/secrets/own/token", T, "magic auto_mount: volume /var/run/secrets/own"),
        # What is the program's own stays here, in a volume or as one.
        ("/work", T, "magic auto_mount: volume /work"),
        ("/work/other", T, "magic auto_mount: volume /work"),
        ("/work/project/main", H, "local default: the current directory"),
        ("/work/project/conf/x", T, "magic auto_mount: volume /work/project/conf"),
        ("/work/lib/table", H, "local default: PYTHONPATH /work/lib"),
        ("/srv/py/lib/x", H, "local default: the program's own tree /srv/py"),
        ("/tmp/x", H, "local default: tree /tmp"),
        ("/opt/other", H, "local default: tree /opt"),
        ("/home/ann/data", T, "magic auto_mount: volume /home/ann"),
        ("/home/ann/.bashrc", H, "local default: tree /home"),
        ("/home/ann/.kube/config", N, "not_found default: $HOME/.kube"),
    ],
)
def test_volumes(path: str, place: Place, rule: str) -> None:
    assert (decide(path).place, decide(path).reason) == (place, f"fs.{rule}")
    assert decide(path, write=True).place is (N if place is N else H)


def test_folders_that_lead_to_the_programs_own_are_here() -> None:
    found = Rules(Config(auto_mount=True), Here(directory="/work/a/b/c"), volumes=[b"/work"])
    places = {
        path: found.decide(path, False).place for path in (b"/work", b"/work/a", b"/work/a/b", b"/work/x")
    }
    assert places == {b"/work": T, b"/work/a": H, b"/work/a/b": H, b"/work/x": T}


@pytest.mark.parametrize(("key", "place"), [("local", H), ("not_found", N), ("read_only", T), ("remote", T)])
def test_the_users_own_lists_come_first(key: str, place: Place) -> None:
    found = decide("/etc/app/x", **{key: ["^/etc/app/x"]})
    assert (found.place, found.reason) == (place, f"fs.{key} ^/etc/app/x")
    assert decide("/etc/app/y", **{key: ["^/etc/app/x"]}).place is T


def test_modes_and_a_session_without_a_target() -> None:
    assert decide("/data/x", mode="localwithoverrides").place is T
    assert decide("/other", mode="localwithoverrides").place is H
    assert decide("/data/x", mode="local").reason == "fs.mode local"
    assert decide("/etc/app/x", auto_mount=False).reason == "fs.local default: tree /etc"


def test_a_volume_whose_name_is_not_utf8() -> None:
    found = rules().decide(b"/\xff/x", False)
    assert (found.place, found.path) == (T, b"/\xff/x")
    assert found.reason == "fs.magic auto_mount: volume /\\xff"


def test_a_tree_with_a_volume_in_it_is_asked_about() -> None:
    assert b"/usr" not in rules().stable_trees() and b"/opt" in rules().stable_trees()
    assert b"/usr" in rules(auto_mount=False).stable_trees()
    assert b"/run" not in rules().stable_trees()


AWS = "magic aws: $HOME/.aws is /tmp/pymirror-1/aws"


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("path", "opened", "rule"),
    [
        ("/home/ann/.aws", "/tmp/pymirror-1/aws", AWS),
        ("/home/ann/.aws/cli/cache/x.json", "/tmp/pymirror-1/aws/cli/cache/x.json", AWS),
        ("/home/ann/.awsx", "/home/ann/.awsx", "local default: tree /home"),
        ("/root/.aws/config", "/root/.aws/config", "mode read"),
    ],
)
def test_aws(path: str, opened: str, rule: str, write: bool) -> None:
    found = Rules(Config(aws=True), HERE).decide(path.encode(), write)
    assert (found.path, found.reason) == (opened.encode(), f"fs.{rule}")


def test_the_users_own_words_about_aws_come_first() -> None:
    path = b"/home/ann/.aws/config"
    assert Rules(Config(aws=True, local=[r"/\.aws/"]), HERE).decide(path, False).path == path
    mapped = Rules(Config(aws=True, mapping={r"/\.aws/": "/.other/"}), HERE).decide(path, False)
    assert mapped.path == b"/home/ann/.other/config"
    secret = Rules(Config(aws=True, auto_mount=True), HERE, volumes=[b"/home/ann/.aws"]).decide(path, False)
    assert (secret.place, secret.path) == (T, path)  # the pod has its credentials there
    assert Rules(Config(aws=True), Here(temp="/tmp")).decide(b"/.aws", False).reason == "fs.mode read"
    assert b"/home/ann" not in Rules(Config(aws=True), HERE).stable_trees()


# What is said --------------------------------------------------------------------------------


def notes(volumes: list[bytes], has_target: bool = True, **config: object) -> list[str]:
    made = Config(**config)
    return of_volumes(made, Rules(made, HERE, has_target, volumes))


def test_a_volume_that_a_default_list_keeps_here_is_said() -> None:
    volumes = [b"/data", b"/etc/app", b"/data/own", b"/usr/x"]
    [note] = notes(volumes, local=["^/data/own"])
    assert "read here by default: /etc/app, /usr/x (" in note
    patterns = 'feature.fs.read_only: ["^/etc/app(/|$)", "^/usr/x(/|$)"])'
    assert note.endswith(f"(to read the target's: feature.magic.auto_mount: true, or {patterns}")
    assert notes(volumes, read_only=["^/etc/app(/|$)", "^/usr/x(/|$)"]) == []
    assert notes(volumes, read_only=["^/etc/app", "^/usr"]) == []
    assert notes(volumes, mode="localwithoverrides") == []
    assert " and 6 more" in notes([b"/etc/%d" % n for n in range(10)])[0]
    assert notes([b"/run/secrets/kubernetes.io/serviceaccount", b"/data"]) == []


def test_what_auto_mount_would_not_read_is_said_apart() -> None:
    first, second = notes([b"/tmp", b"/etc/app"])
    assert ": /etc/app (to read the target's: feature.magic" in first
    assert second.endswith(': /tmp (to read the target\'s: feature.fs.read_only: ["^/tmp(/|$)"])')


def test_what_auto_mount_reads_is_said() -> None:
    read, kept = notes([b"/tmp", b"/etc/app", b"/data"], auto_mount=True)
    assert read.endswith("read from the target by feature.magic.auto_mount: /etc/app, /data")
    assert ": /tmp (" in kept and "auto_mount" not in kept
    [none] = notes([], auto_mount=True)
    assert none.endswith("feature.magic.auto_mount: no volume of the target is seen that it would read")


def test_explain_knows_no_volumes_and_says_so() -> None:
    def told(call: Call, **config: object) -> str:
        verdict = Layer.explain(Config(**config), call)
        assert verdict is not None
        return verdict.reason

    unknown = "; in a session fs.magic auto_mount comes first, where the target has a volume there"
    etc = Call("open", b"/etc/app/x")
    assert told(etc, auto_mount=True) == f"fs.local default: tree /etc{unknown}"
    assert told(etc) == told(etc, auto_mount=True, local=["^/none$"]).removesuffix(unknown)
    assert told(etc, auto_mount=True, local=["^/etc"]) == "fs.local ^/etc"
    assert told(etc, auto_mount=True, mode="local") == "fs.mode local"
    assert told(Call("open", b"/etc/app/x", write=True), auto_mount=True) == "fs.local default: tree /etc"
    assert told(Call("open", b"/data/x"), auto_mount=True, mode="read") == "fs.mode read"


def test_explain_shows_the_folder_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    verdict = Layer.explain(Config(aws=True), Call("open", b"/home/ann/.aws/config"))
    assert isinstance(verdict, Untouched) and "$HOME/.aws is " in verdict.reason
    assert verdict.reason.endswith("/pymirror-…/aws")


def test_a_preset_in_mode_local_is_warned_about() -> None:
    assert Config(mode="local", auto_mount=True, aws=True).warnings() == [
        "feature.magic.auto_mount has no effect on files: feature.fs is in mode local",
        "feature.magic.aws has no effect on files: feature.fs is in mode local",
    ]
    assert Config(auto_mount=True, aws=True).warnings() == []
