"""What the layer keeps of the target's tree: found, forgotten, bounded."""

from __future__ import annotations

import errno

import pytest

from pymirror.features.fs import cache as module
from pymirror.features.fs.attr import Attr, pack_entry, unpack_entries
from pymirror.features.fs.cache import Cache, Located, Node
from pymirror.features.fs.marks import LABEL, LISTS, OTHERS, RIGHTS, TOLD, UNTOLD, marks

DIR, FILE, LINK = 0o40755, 0o100644, 0o120777


def attr(mode: int, ino: int = 1, size: int = 0, mtime: int = 0) -> Attr:
    return Attr(mode, 0, 0, 1, ino, 1, size, 0, 4096, 0, mtime, 0, 0)


@pytest.fixture
def cache() -> Cache:
    """/, /data, /data/file, /data/sub, /data/up → sub/file, /data/top → /data, all watched."""
    made = Cache()
    for ino, (path, mode, link) in enumerate(
        [
            (b"/", DIR, b""),
            (b"/data", DIR, b""),
            (b"/data/file", FILE, b""),
            (b"/data/sub", DIR, b""),
            (b"/data/up", LINK, b"sub/../file"),
            (b"/data/top", LINK, b"/data/"),
        ],
        1,
    ):
        made.learn(path, attr(mode, ino), link, True)
    return made


@pytest.mark.parametrize(
    ("path", "follow", "found"),
    [
        (b"/data/file", True, b"/data/file"),
        (b"/data/sub/../file", True, b"/data/file"),
        (b"/data/up", True, b"/data/file"),
        (b"/data/up", False, b"/data/up"),
        (b"/data/top/file", False, b"/data/file"),
        (b"/../data", True, b"/data"),
        (b"/", True, b"/"),
    ],
)
def test_what_is_known_is_found(cache: Cache, path: bytes, follow: bool, found: bytes) -> None:
    assert cache.locate(path, follow).node is cache.by_path[found]


@pytest.mark.parametrize(
    ("path", "base", "rest"),
    [
        (b"/data/sub/deep/x", b"/data/sub", b"deep/x"),
        (b"/data/top/sub/x", b"/data/sub", b"x"),
        (b"/data/other/../file", b"/data", b"other/../file"),
        (b"/none/x", b"/", b"none/x"),
    ],
)
def test_what_is_not_known_says_where_to_begin(cache: Cache, path: bytes, base: bytes, rest: bytes) -> None:
    assert cache.locate(path, True) == Located(None, 0, base, rest)


def test_an_unwatched_folder_is_no_place_to_begin(cache: Cache) -> None:
    cache.by_path[b"/data/sub"].watched = False
    assert cache.locate(b"/data/sub/x", True) == Located(None, 0, b"/data", b"sub/x")


def test_a_missing_name_is_known_below_watched_folders_only(cache: Cache) -> None:
    cache.learn_missing(b"/data/none", True)
    assert cache.locate(b"/data/none/x", True).errno == errno.ENOENT
    cache.by_path[b"/data/sub"].watched = False
    cache.learn_missing(b"/data/sub/none", True)
    cache.learn_missing(b"/data/perhaps", False)
    assert list(cache.missing) == [b"/data/none"]
    cache.learn(b"/data/none", attr(FILE, 9), b"", True)
    assert cache.locate(b"/data/none", True).node is cache.by_path[b"/data/none"]


def test_a_loop_of_links_is_asked_of_the_target(cache: Cache) -> None:
    cache.learn(b"/data/loop", attr(LINK, 20), b"loop", True)
    found = cache.locate(b"/data/loop", True)
    assert (found.node, found.errno) == (None, 0) and found.rest


def test_below_names_everything_the_deepest_first(cache: Cache) -> None:
    cache.learn(b"/data/sub/x", attr(FILE, 30), b"", True)
    cache.learn_missing(b"/data/sub/none", True)
    found = list(cache.below(b"/data"))
    assert set(found) == {p for p in (*cache.by_path, *cache.missing) if p.startswith(b"/data/")}
    assert found.index(b"/data/sub/x") < found.index(b"/data/sub")
    assert set(cache.below(b"/")) == {*found, b"/data"}


def test_another_file_under_a_name_is_another_node(cache: Cache) -> None:
    before = cache.by_path[b"/data/file"]
    before.lookups = before.opens = 1
    after = cache.learn(b"/data/file", attr(FILE, 99), b"", True)
    assert after is not before and cache.by_number[before.number] is before
    before.handle = 7
    cache.closed(before)
    cache.forget(before.number, 1)
    assert before.number not in cache.by_number and cache.take_released() == [7]


def test_content_is_forgotten_with_a_changed_file(cache: Cache) -> None:
    node = cache.by_path[b"/data/file"]
    cache.keep_data(node, b"old")
    cache.learn(b"/data/file", attr(FILE, 3, size=4, mtime=5), b"", True)
    assert node.data is None and node.version > 0


def test_contents_listings_missing_names_and_nodes_are_bounded(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_INLINE_BYTES", 10)
    monkeypatch.setattr(module, "MOST_LISTED", 3)
    monkeypatch.setattr(module, "MOST_MISSING", 2)
    monkeypatch.setattr(module, "MOST_NODES", 20)
    first, second = cache.by_path[b"/data/file"], cache.learn(b"/data/b", attr(FILE, 50), b"", True)
    cache.keep_data(first, b"x" * 8)
    cache.keep_data(second, b"x" * 8)
    assert (first.data, second.data) == (None, b"x" * 8)
    one, two = cache.by_path[b"/data"], cache.by_path[b"/data/sub"]
    cache.keep_listing(one, [(b"a", attr(FILE), b"", True)] * 2)
    cache.keep_listing(two, [(b"a", attr(FILE), b"", True)] * 2)
    assert one.listing is None and two.listing is not None
    for name in (b"/data/1", b"/data/2", b"/data/3"):
        cache.learn_missing(name, True)
    assert list(cache.missing) == [b"/data/2", b"/data/3"]
    kept = cache.learn(b"/data/kept", attr(FILE, 60), b"", True)
    kept.lookups = 1
    for number in range(100):
        cache.learn(b"/data/n%d" % number, attr(FILE, 100 + number), b"", True)
    assert len(cache.by_path) <= 20 and cache.by_path[b"/data/kept"] is kept
    assert b"/data" in cache.by_path  # a folder of something known stays


def test_a_listing_crosses_as_it_was() -> None:
    entries = [
        (b"\xffname", attr(LINK, 5, 3), b"to", True, TOLD),
        (b"x" * 255, attr(FILE, 6), b"", False, UNTOLD),
    ]
    packed = b"".join(pack_entry(*entry) for entry in entries)
    assert unpack_entries(packed, 2) == entries


@pytest.mark.parametrize(
    ("watched", "extended", "lacks", "lacks_label"),
    [
        (True, TOLD, True, True),
        (True, TOLD | LABEL, True, False),
        (True, TOLD | OTHERS, False, True),
        (True, UNTOLD, False, False),
        (True, LABEL, False, False),  # no agent of ours says so
        (False, TOLD, False, False),
    ],
)
def test_which_attributes_nobody_is_asked_for(
    cache: Cache, watched: bool, extended: int, lacks: bool, lacks_label: bool
) -> None:
    node = cache.learn(b"/data/file", attr(FILE, 3), b"", watched, extended)
    assert (node.lacks(b"user.x"), node.lacks(b"security.selinux")) == (lacks, lacks_label)


def test_attributes_by_kind(cache: Cache) -> None:
    names = [b"security.selinux", b"security.capability", b"system.posix_acl_default", b"user.x"]
    assert [marks([name]) for name in names] == [TOLD | kind for kind in (LABEL, RIGHTS, LISTS, OTHERS)]
    for name in names:
        node = cache.learn(b"/data/file", attr(FILE, 3), b"", True, marks([name]))
        assert [other for other in names if not node.lacks(other)] == [name]
        assert not node.lacks(b"")
    assert cache.learn(b"/data/file", attr(FILE, 3), b"", True, marks([])).lacks(b"")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0"])
def test_a_listing_with_an_impossible_name_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="usable name"):
        unpack_entries(pack_entry(name, attr(FILE), b"", True, TOLD), 1)


def test_a_listing_that_ends_early_is_refused() -> None:
    packed = pack_entry(b"name", attr(FILE), b"", True, TOLD)
    for size in range(len(packed)):
        with pytest.raises(ValueError, match="entry"):
            unpack_entries(packed[:size], 1)


def test_the_top_is_never_dropped(cache: Cache) -> None:
    assert cache.drop_name(b"/") is None
    assert isinstance(cache.by_path[b"/"], Node)


def linked(ino: int, nlink: int) -> Attr:
    return attr(FILE, ino)._replace(nlink=nlink)


def test_names_of_one_file_are_one_node(cache: Cache) -> None:
    one = cache.learn(b"/data/file", linked(3, 2), b"", True)
    assert cache.learn(b"/data/sub/more", linked(3, 2), b"", True) is one
    assert one.names == {b"/data/file", b"/data/sub/more"}
    cache.drop_name(b"/data/file")
    assert one.path == b"/data/sub/more" and cache.by_path[one.path] is one
    one.lookups = 0
    cache.drop_name(b"/data/sub/more")
    assert one.number not in cache.by_number
    assert (
        cache.learn(b"/data/new", linked(3, 2), b"", True) is not one
    )  # its number was given to another file


def test_a_folder_and_all_below_have_another_name(cache: Cache) -> None:
    cache.learn(b"/data/sub/deep", attr(DIR, 9), b"", True)
    inner = cache.learn(b"/data/sub/deep/x", attr(FILE, 10), b"", True)
    replaced = cache.learn(b"/data/other", attr(DIR, 11), b"", True)
    sub = cache.by_path[b"/data/sub"]
    cache.move(b"/data/sub", b"/data/other")
    assert cache.by_path[b"/data/other"] is sub and sub.path == b"/data/other" and sub is not replaced
    assert inner.path == b"/data/other/deep/x" and cache.locate(inner.path, True).node is inner
    assert b"/data/sub" not in cache.by_path and not list(cache.below(b"/data/sub"))
    assert set(cache.below(b"/data/other")) == {b"/data/other/deep", b"/data/other/deep/x"}


def test_two_names_are_exchanged(cache: Cache) -> None:
    file, sub = cache.by_path[b"/data/file"], cache.by_path[b"/data/sub"]
    cache.learn(b"/data/sub/deep", attr(DIR, 9), b"", True)
    cache.exchange(b"/data/file", b"/data/sub")
    assert (cache.by_path[b"/data/sub"], cache.by_path[b"/data/file"]) == (file, sub)
    assert (file.path, sub.path) == (b"/data/sub", b"/data/file")
    assert b"/data/sub/deep" not in cache.by_path


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        (b"/data/sub/none", True),
        (b"/data/sub/there", False),
        (b"/data/none", False),  # a folder that was never listed
        (b"/data/sub/" + b"n" * 255, True),
        (b"/data/sub/" + b"n" * 256, False),  # the target says that it is too long
    ],
)
def test_names_that_a_known_folder_does_not_have(cache: Cache, path: bytes, missing: bool) -> None:
    cache.learn(b"/data/sub/there", attr(FILE, 9), b"", True)
    cache.keep_listing(cache.by_path[b"/data/sub"], [(b"there", attr(FILE, 9), b"", True)])
    assert cache.is_missing(path) is missing


@pytest.mark.parametrize("forget", ["content", "watch", "name"])
def test_a_folder_that_may_have_changed_is_not_complete(cache: Cache, forget: str) -> None:
    sub = cache.by_path[b"/data/sub"]
    cache.keep_listing(sub, [])
    if forget == "content":
        cache.forget_content(sub)
    elif forget == "watch":
        sub.watched = False
    else:
        cache.drop_name(b"/data/sub")
    assert not cache.is_missing(b"/data/sub/none")
