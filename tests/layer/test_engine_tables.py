"""The engine's decisions as tables: paths, what is kept, what an answer is, what an error means."""

import errno
import os

import pytest

from pymirror.core.call import Call, Errno, OtherPath, Scope, Text, Untouched, Verdict
from pymirror.core.errors import ProgramError, SupportError
from pymirror.layer.engines.seccomp import native
from pymirror.layer.engines.seccomp.engine import Engine, lack, refusal


@pytest.mark.parametrize(
    ("raw", "path", "slash"),
    [
        (b"/", b"/", True),
        (b"/a/b", b"/a/b", False),
        (b"/a/b/", b"/a/b", True),
        (b"//a///b", b"/a/b", False),
        (b"/a/./b/.", b"/a/b", True),
        (b"/a/../b", b"/b", False),
        (b"/a/b/..", b"/a", True),
        (b"/..", b"/", True),
        (b"/../../a", b"/a", False),
        (b"/a/..b/.c/...", b"/a/..b/.c/...", False),
        (b"/\xff\xfe", b"/\xff\xfe", False),
    ],
)
def test_normal_form(raw, path, slash):
    assert native.normalise(raw) == (path, slash)


@pytest.fixture
async def engine():
    made = Engine()
    yield made
    await made.aclose()


def known(engine, name, path, **more):
    return engine._pump.known(Call(name, path, **more))


LOCAL = Untouched("local", scope=Scope.CALL)


def tree(path, verdict=Untouched):
    return verdict("tree", scope=Scope.TREE, tree=path)


async def test_nothing_is_known_at_first(engine):
    assert known(engine, "open", b"/a") == "ask"


async def test_a_call_is_kept_for_itself_alone(engine):
    engine.learn(Call("open", b"/a"), LOCAL)
    assert known(engine, "open", b"/a") == "continue"
    for other in (("stat", b"/a"), ("open", b"/a/b"), ("open", b"/")):
        assert known(engine, *other) == "ask"
    assert known(engine, "open", b"/a", write=True) == "ask"
    assert known(engine, "open", b"/a", follow=False) == "ask"


async def test_a_tree_reaches_down_and_not_beside(engine):
    engine.learn(Call("open"), tree(b"/usr"))
    assert [known(engine, "open", path) for path in (b"/usr", b"/usr/x/y", b"/usrx", b"/")] == [
        "continue", "continue", "ask", "ask",
    ]  # fmt: skip
    assert known(engine, "open", b"/usr/x", follow=False) == "continue"


async def test_the_whole_file_system_is_a_tree(engine):
    engine.learn(Call("open"), tree(b"/"))
    assert known(engine, "open", b"/") == known(engine, "open", b"/a/b") == "continue"


async def test_the_nearer_tree_and_the_exact_answer_win(engine):
    engine.learn(Call("open"), tree(b"/"))
    engine.learn(Call("open"), Errno("no", code=errno.EACCES, scope=Scope.TREE, tree=b"/secret"))
    engine.learn(Call("open", b"/secret/not"), LOCAL)
    engine.learn(Call("open", b"/etc/hosts"), None)
    assert known(engine, "open", b"/x") == "continue"
    assert known(engine, "open", b"/secret/x") == "errno"
    assert known(engine, "open", b"/secret/not") == "continue"
    assert known(engine, "open", b"/etc/hosts") == known(engine, "open", b"/etc/hosts", follow=False) == "ask"


async def test_once_is_not_kept(engine):
    engine.learn(Call("open", b"/a"), Untouched("once"))
    assert known(engine, "open", b"/a") == "ask"


async def test_other_verdicts_are_kept_too(engine):
    root = os.open("/", os.O_PATH)
    try:
        engine.learn(Call("stat", b"/a"), OtherPath("t", root=root, path=b"a", scope=Scope.CALL))
        engine.learn(Call("hostname"), Text("t", value=b"pod", scope=Scope.CALL))
    finally:
        os.close(root)
    assert known(engine, "stat", b"/a") == "tree path"
    assert known(engine, "hostname", b"") == "text"


async def test_a_full_table_forgets_single_paths_but_no_exception(engine):
    engine.learn(Call("open"), tree(b"/usr"))
    engine.learn(Call("open", b"/usr/asked"), None)
    engine.learn(Call("open", b"/first"), LOCAL)
    for number in range(65536):
        engine.learn(Call("open", b"/n/%d" % number), LOCAL)
    assert known(engine, "open", b"/first") == "ask"
    assert known(engine, "open", b"/n/65535") == "continue"
    assert known(engine, "open", b"/usr/asked") == "ask"
    assert known(engine, "open", b"/usr/x") == "continue"


async def test_too_long_a_path_is_refused(engine):
    with pytest.raises(OSError, match="keeping the verdict"):
        engine.learn(Call("open", b"/" + b"x" * 5000), LOCAL)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (Call("open", b"/a"), native.lib.PM_OPEN_READ),
        (Call("open", b"/a", write=True), native.lib.PM_OPEN_WRITE),
        (Call("access", b"/a", write=True), native.lib.PM_ACCESS_WRITE),
        (Call("stat", b"/a", write=True), native.lib.PM_STAT),  # not told apart
    ],
)
def test_the_kind_of_a_call(call, kind):
    assert native.kind_of(call) == kind


def test_a_call_that_is_not_caught_has_no_kind():
    with pytest.raises(KeyError):
        native.kind_of(Call("connect"))


def test_an_unknown_verdict_is_a_type_error():
    with pytest.raises(TypeError, match="cannot carry out"):
        native.answer_of(Verdict("what"))


@pytest.mark.parametrize(
    ("stage", "code", "kind", "status"),
    [
        ("exec", errno.ENOENT, ProgramError, 127),
        ("exec", errno.ENOTDIR, ProgramError, 127),
        ("exec", errno.EACCES, ProgramError, 126),
        ("exec", errno.ENOEXEC, ProgramError, 126),
        ("filter", errno.EINVAL, SupportError, 125),
    ],
)
def test_whose_fault_a_failed_start_is(stage, code, kind, status):
    error = native.SpawnError(code, os.strerror(code))
    error.stage = stage
    made = refusal(error, "/x")
    assert type(made) is kind and made.exit_status == status


def test_a_lack_is_named():
    assert "already listens" in str(lack("filter", errno.EBUSY))
    assert "ptrace_scope" in str(lack("process_vm_readv", errno.EPERM))


def test_this_machine_has_what_it_needs():
    Engine().check(frozenset({"open", "hostname"}))


def test_a_call_nobody_can_catch_is_refused():
    with pytest.raises(SupportError, match="teleport"):
        Engine().check(frozenset({"teleport"}))


async def test_names_of_sockets_that_are_used_stay_however_many_come_after(engine):
    pump, room = engine._pump, 32_768
    for number in range(1, 3 * room):
        pump.named(number, put=True)
        assert number % 1000 or pump.named(7)  # asked for now and then
    assert pump.named(3 * room - 1)
    assert not pump.named(8)
    for number in range(3 * room, 5 * room):
        pump.named(number, put=True)
    assert not pump.named(7)
