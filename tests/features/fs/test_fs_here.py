"""What on this machine counts as the program's own code: its command line, PATH, variables, git."""

import os

import pytest

from pymirror.features.fs import here as place


@pytest.fixture
def top(tmp_path, monkeypatch):
    """A project with a virtual environment; the current directory is below its top."""
    for name in ("src/app.py", "src/notes.txt", "venv/pyvenv.cfg", "venv/bin/tool", "lib/x.jar", "sub/x"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path / "sub")
    return tmp_path


def named(argv, environ, top):
    found = place.here(argv, environ).named
    return [(os.path.relpath(path, top), words.replace(str(top), "TOP")) for path, words in found]


@pytest.mark.parametrize(
    ("argv", "tree", "words"),
    [
        (["python3", "TOP/src/app.py"], "src", "the folder of TOP/src/app.py"),
        (["python3", "-u", "../src/app.py", "x"], "src", "the folder of ../src/app.py"),
        (["../src/app.py"], "src", "the folder of ../src/app.py"),
    ],
)
def test_the_folder_of_a_file_of_code(top, argv, tree, words):
    argv = [word.replace("TOP", str(top)) for word in argv]
    assert named(argv, {}, top) == [(tree, words)]


@pytest.mark.parametrize("word", ["../src/notes.txt", "../src", "../src/none.py", "app.py", ""])
def test_no_other_word(top, word):
    assert named(["python3", word], {}, top) == []


@pytest.mark.parametrize("name", place.VARIABLES)
def test_variables_of_runtimes(top, name):
    value = f"{top}/lib::{top}/none:{top}/lib/x.jar:{top}/src/*"
    assert named([], {name: value}, top) == [
        ("lib", f"{name} TOP/lib"),
        ("lib/x.jar", f"{name} TOP/lib/x.jar"),
        ("src", f"{name} TOP/src/*"),
    ]


def test_folders_of_path(top):
    found = named([], {"PATH": f"{top}/venv/bin:{top}/none:{top}/src:../lib:"}, top)
    venv = "PATH TOP/venv/bin"
    assert found == [("venv/bin", venv), ("venv", venv), ("src", "PATH TOP/src")]


def test_the_git_work_tree(top, monkeypatch):
    (top / ".git").mkdir()
    assert named([], {}, top) == [(".", "git work tree TOP")]
    monkeypatch.setenv("HOME", str(top))
    assert named([], {}, top) == []


def test_links_count_in_both_spellings(top):
    (top / "link").symlink_to(top / "src")
    words = "the folder of ../link/app.py"
    assert named(["python3", "../link/app.py"], {}, top) == [("link", words), ("src", words)]
