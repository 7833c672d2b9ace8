"""The order of the lists, the default lists, mapping, and the words of each decision."""

import errno
import re

import pytest

from pymirror.core.call import Call
from pymirror.core.errors import ConfigError
from pymirror.core.structure import nested
from pymirror.features.fs.config import Config
from pymirror.features.fs.defaults import TREES, Here, ancestors
from pymirror.features.fs.layer import Layer
from pymirror.features.fs.own import Own
from pymirror.features.fs.rules import Place, Rules

HERE = Here(
    home="/home/ann",
    temp="/tmp",
    directory="/work/project",
    programs=["/srv/py/bin/python", "/srv/py"],
    named=[
        ("/", "the folder of /app.py"),
        ("/code/a/src", "the folder of ../src/app.py"),
        ("/srvx/lib", "PYTHONPATH /srvx/lib"),
        ("/usr/bin", "PATH /usr/bin"),
    ],
)
T, H, N = Place.TARGET, Place.HERE, Place.NOWHERE


def decide(path, write=False, has_target=True, **config):
    return Rules(Config(**config), HERE, has_target).decide(path.encode(), write)


@pytest.mark.parametrize(
    ("path", "read", "write", "rule"),
    [
        ("/data/x", T, H, "mode read"),
        ("/etc/hosts", T, H, "read_only default: /etc/hosts"),
        ("/etc/hostname", T, H, "read_only default: /etc/hostname"),
        ("/etc/ssl/certs/ca.pem", T, H, "read_only default: tree /etc/ssl/certs"),
        ("/etc/hosts.allow", H, H, "local default: tree /etc"),
        *(
            (f"{tree}/x", H, H, f"local default: tree {tree}")
            for tree in TREES
            if not tree.startswith("/home/")
        ),
        ("/usrx/y", T, H, "mode read"),
        ("/app/main.py", H, H, "local default: suffix of code"),
        ("/app/libx.so.6", H, H, "local default: suffix of a library's version"),
        ("/app/.py", H, H, "local default: suffix of code"),
        ("/app/package.json", H, H, "local default: /package.json"),
        ("/app/node_modules/x/y", H, H, "local default: node_modules"),
        ("/", H, H, "local default: the root itself"),
        ("/work/project/file", H, H, "local default: the current directory"),
        ("/work/projects/file", T, H, "mode read"),
        ("/work", H, H, "local default: a folder above the program's own files"),
        ("/work/other", T, H, "mode read"),
        ("/srv/py/lib/x", H, H, "local default: the program's own tree /srv/py"),
        ("/code/a/src/data.txt", H, H, "local default: the folder of ../src/app.py"),
        ("/code/a", H, H, "local default: a folder above the program's own files"),
        ("/code/a/other", T, H, "mode read"),
        ("/srvx/lib/pkg/table.bin", H, H, "local default: PYTHONPATH /srvx/lib"),
        ("/srvx", H, H, "local default: a folder above the program's own files"),
        ("/srvx/library", T, H, "mode read"),
        ("/usr/bin/x", H, H, "local default: tree /usr"),
        ("/home/ann/.kube/config", N, N, "not_found default: $HOME/.kube"),
        ("/home/ann/.bashrc", H, H, "local default: tree /home"),
        ("/var/run/secrets/token", T, H, "mode read"),
        ("/run/secrets/token", H, H, "local default: tree /run"),
        ("/USR/lib", H, H, "local default: tree /usr"),
    ],
)
def test_default_lists(path, read, write, rule):
    assert (decide(path).place, decide(path).reason) == (read, f"fs.{rule}")
    assert decide(path, write=True).place is write


LISTS = {"not_found": ["^/a"], "read_only": ["^/a", "^/b"], "local": ["^/a", "^/b", "^/c"]}


@pytest.mark.parametrize(
    ("path", "read", "write", "rule"),
    [
        ("/a/x", N, N, "not_found ^/a"),
        ("/b/x", T, H, "read_only ^/b"),
        ("/c/x", H, H, "local ^/c"),
        ("/d/x", T, H, "mode read"),
    ],
)
def test_user_lists_in_order(path, read, write, rule):
    assert (decide(path, **LISTS).place, decide(path, **LISTS).reason) == (read, f"fs.{rule}")
    assert decide(path, write=True, **LISTS).place is write


def test_user_lists_beat_the_defaults():
    assert decide("/etc/passwd", read_only=["^/etc/passwd$"]).place is T
    assert decide("/etc/hosts", local=["hosts"]).place is H
    assert decide("/home/ann/.kube/config", read_only=[r"\.kube"]).place is T


@pytest.mark.parametrize(
    ("mode", "has_target", "place"),
    [("read", True, T), ("localwithoverrides", True, H), ("local", True, H), ("read", False, H)],
)
def test_modes(mode, has_target, place):
    assert decide("/data/x", mode=mode, has_target=has_target).place is place


def test_in_mode_local_no_list_counts():
    assert decide("/a", mode="local", not_found=["^/a"]).place is H


@pytest.mark.parametrize(
    ("mapping", "path", "made"),
    [
        ({"^/home/(\\w+)/": "/users/$1/"}, "/home/ann/x", "/users/ann/x"),
        ({"^/HOME/": "/users/"}, "/home/ann/x", "/users/ann/x"),
        ({"(?P<who>ann)": "${who}a"}, "/x/ann/y", "/x/anna/y"),
        ({"^/a": "/one", "^/a/b": "/two"}, "/a/b", "/one/b"),
        ({"^/users(/|$)": "/home$1"}, "/users/ann", "/home/ann"),
        ({"^/users(/|$)": "/home$1"}, "/users", "/home"),
        ({"x": "$$"}, "/x", "/$"),
        ({"^/a": "/b/.."}, "/a/c", "/c"),
        ({"^/a": "relative"}, "/a/c", "/a/c"),
    ],
)
def test_mapping(mapping, path, made):
    found = decide(path, mapping=mapping)
    assert found.path == made.encode()
    assert f"mapped by {next(iter(mapping))} to {made}" in found.reason


def test_a_name_that_is_not_utf8_is_decided_by_its_folders():
    rules = Rules(Config(), HERE)
    assert rules.decide(b"/usr/\xff", False).place is H
    found = rules.decide(b"/data/\xff", False)
    assert (found.place, found.path) == (T, b"/data/\xff")


def test_patterns_of_here_are_literal():
    rules = Rules(Config(), Here(home="/h(", temp="/t+", directory="/w[o"))
    assert rules.decide(b"/w[o/x", False).place is H
    assert rules.decide(b"/t+/x", False).place is H


def test_stable_trees_hold_no_exception():
    rules = Rules(Config(), HERE)
    trees = rules.stable_trees()
    assert b"/usr" in trees and b"/etc" not in trees and b"/home" not in trees
    assert all(
        rules.decide(tree + b"/any/thing", write).place is H for tree in trees for write in (False, True)
    )
    assert Rules(Config(local=["x"]), HERE).stable_trees() == []


SLOW = "(a|aa)+$"
LONG = f"/data/{'a' * 60}b"


@pytest.mark.parametrize("key", ["not_found", "read_only", "local"])
def test_a_pattern_that_takes_for_ever_is_given_up(key):
    found = decide(LONG, **{key: [SLOW]})
    assert (found.place, found.path) == (Place.UNDECIDED, LONG.encode())
    assert found.reason == f"fs.{key} {SLOW}: searching this pattern took more than 0.05 s"
    assert decide("/data/b", **{key: [SLOW]}).place is T


def test_nested_repeats_are_no_trouble():
    assert decide(LONG, local=["(a+)+$"], mapping={"(a+)+$": "/x"}).place is T


def test_so_is_one_of_mapping():
    assert f"fs.mapping {SLOW}: " in decide(LONG, mapping={SLOW: "/x"}).reason


def test_the_program_gets_eio_and_the_user_one_word(caplog):
    call = Call("stat", LONG.encode())
    layer = Layer(Config(local=[SLOW]), None)
    layer._rules, layer._own = Rules(layer.config, HERE), Own()
    for verdict in (layer.path(call), layer.path(call), Layer.explain(layer.config, call)):
        assert (verdict.code, SLOW in verdict.reason) == (errno.EIO, True)
    assert [SLOW in record.getMessage() for record in caplog.records] == [True]


def test_what_only_re_can_read_is_an_error_of_the_key():
    with pytest.raises(ConfigError, match=r"feature\.fs\.local: '\(\?:x\)\{e"):
        Rules(Config(local=["(?:x){e<=y}"]), HERE)


def test_ancestors():
    assert ancestors(["/a/b/c", "/a/d", "/e"]) == ["/a/b", "/a"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"owner": "root"}, "owner: 'root' is no uid"),
        ({"owner": "1:4294967295"}, "is no uid or uid:gid"),
        ({"mode": "raed"}, "raed"),
        ({"local": "("}, "not a regular expression"),
        ({"readonly_file_buffer": 16 << 20}, "15 MiB"),
        ({"mapping": {"^/(a)": "/$2"}}, r"mapping: .*uses \$2, and"),
        ({"mapping": {"^/(a)": "/$1b"}}, r"uses \$1b, and .*\$\{1\}"),
        ({"mapping": {"^/(?P<x>a)": "/${y}"}}, r"uses \$\{y\}"),
    ],
)
def test_what_is_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        nested(Config, given, "feature.fs")
    assert re.search(words, str(caught.value), re.S), str(caught.value)


@pytest.mark.parametrize(
    ("given", "mode"), [(True, "read"), (False, "local"), ("localwithoverrides", "localwithoverrides")]
)
def test_short_forms(given, mode):
    assert nested(Config, given, "feature.fs").mode == mode


@pytest.mark.parametrize("key", ["read_only", "local", "not_found"])
def test_a_pattern_without_its_folder_is_worth_a_word(key):
    config = Config(**{key: ["^/etc/myapp/", "^/etc/myapp(/|$)", "^/", "/", "^/x\\/"]})
    assert config.warnings() == [
        f"feature.fs.{key}: '^/etc/myapp/' does not match the folder itself: '^/etc/myapp(/|$)' does",
        f"feature.fs.{key}: '^/x\\\\/' does not match the folder itself: '^/x(/|$)' does",
    ]
    assert decide("/etc/myapp", **{key: ["^/etc/myapp/"]}).reason == "fs.local default: tree /etc"
    assert decide("/etc/myapp", **{key: ["^/etc/myapp(/|$)"]}).reason == f"fs.{key} ^/etc/myapp(/|$)"
