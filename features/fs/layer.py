"""The layer's half of `fs`: decides each path by the rules and shows the target's tree.

One request fetches what an open or a stat of a path needs; what is known and watched needs none.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable
from functools import partial

from pymirror.core.call import PATH_CALLS, Call, Errno, OtherPath, Scope, Text, Untouched, Verdict
from pymirror.core.errors import SupportError
from pymirror.core.feature import Launch, LayerFeature, handles, intercepts
from pymirror.features.fs import config as keys
from pymirror.features.fs import messages as m
from pymirror.features.fs import mount
from pymirror.features.fs.access import Identity
from pymirror.features.fs.cache import Seen
from pymirror.features.fs.here import here
from pymirror.features.fs.own import MOST, Own
from pymirror.features.fs.owner import RIGHTS
from pymirror.features.fs.presets import instead_of_aws
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.rules import Decision, Place, Rules
from pymirror.features.fs.runs import goes_on
from pymirror.features.fs.standins import StandIns
from pymirror.features.fs.tree import Tree
from pymirror.features.fs.volumes import of_volumes, told_of_volumes

READING = tuple(name for name in PATH_CALLS if name != "change")


class Layer(LayerFeature):
    """Rules → verdicts; the FUSE tree."""

    name = "fs"
    Config = keys.Config
    config: keys.Config
    _tree: Tree | None = None
    _mount: mount.Mount | None = None
    _standins: StandIns | None = None
    _top = -1
    _told: frozenset[str] = frozenset()
    _told_full = False

    @classmethod
    def wanted(cls, config: keys.Config) -> bool:
        return config.mode != "local"

    @classmethod
    def check(cls, config: keys.Config) -> None:
        mount.check()

    @classmethod
    def rights(cls, config: keys.Config) -> frozenset[str]:
        reading = frozenset({"SYS_PTRACE", "DAC_OVERRIDE"})  # its root, and what its user alone may read
        return reading | RIGHTS if config.writes else reading

    @classmethod
    def explain(cls, config: keys.Config, call: Call) -> Verdict | None:
        if call.name not in PATH_CALLS:
            return None
        decision = Rules(config, here([], os.environ)).decide(call.path, call.write)
        if not call.write or config.mode == "write":
            decision = told_of_volumes(config, decision)
        if decision.place is Place.HERE:
            return Untouched(decision.reason)
        if decision.place is Place.NOWHERE:
            return Errno(decision.reason, code=errno.ENOENT)
        if decision.place is Place.UNDECIDED:
            return Errno(decision.reason, code=errno.EIO)
        return OtherPath(decision.reason, root=-1, path=decision.path)

    async def prepare(self, launch: Launch) -> None:
        place: m.Place = await self.peer.request(m.AskPlace())
        found = here(launch.argv, os.environ, launch.directory)
        volumes = place.volumes if launch.has_target else ()
        self._rules = Rules(self.config, found, launch.has_target, volumes)
        self._own, self._forget = Own(), launch.forget
        self._top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.config.writes and place.cannot_write:
            raise SupportError(
                f"files cannot be written in the target: {place.cannot_write}",
                "set feature.fs.mode to read, or feature.fs.owner, or let the agent have the right",
            )
        self._mount = mount.mount(launch.directory, launch.visible, self.config.writes)
        launch.connection(mount.connection(self._mount))
        self._tree = Tree(
            self._mount,
            Questions(self.peer, m.MOST_INLINE, self.config.timeout),
            self.config.readonly_file_buffer > 0,
            Identity(place.uid, frozenset(place.groups), place.overrides),
            Identity(place.writer, frozenset(place.writer_groups), place.writer_overrides)
            if self.config.writes
            else None,
            self._rules.writable,
        )
        self._standins = StandIns(
            self.peer, self.config.timeout, partial(self._stand, launch), self._tree.settled
        )
        for tree in self._rules.stable_trees():
            for name in PATH_CALLS:
                for write in (False, True):
                    verdict = Untouched(
                        f"fs.local default: tree {os.fsdecode(tree)}", scope=Scope.TREE, tree=tree
                    )
                    launch.known.append((Call(name, tree, write=write), verdict))
        launch.notes.append(f"files: {_summary(self.config, self._rules)}")
        launch.notes += of_volumes(self.config, self._rules)
        if self.config.aws:
            os.mkdir(instead_of_aws(found), 0o700)
            launch.notes.append("files: ~/.aws is an empty folder of this session (feature.magic.aws)")

    @staticmethod
    def _stand(launch: Launch) -> mount.Mount:
        made = mount.mount(launch.directory, launch.visible, True, "watched")
        launch.connection(mount.connection(made))
        return made

    async def aclose(self) -> None:
        tree, mounted, standins = self._tree, self._mount, self._standins
        self._tree = self._mount = self._standins = None
        if standins is not None:
            await standins.aclose()
        if tree is not None:
            await tree.aclose()
        if mounted is not None:
            await mount.unmount(mounted)
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    @handles(m.Changed)
    def changed(self, news: m.Changed) -> None:
        if self._tree is not None:
            self._tree.changed(news)

    @handles(m.Happened)
    def happened(self, news: m.Happened) -> None:
        if self._standins is not None:
            self._standins.happened(news)

    @intercepts(*PATH_CALLS)
    def path(self, call: Call) -> Verdict | Awaitable[Verdict]:
        decision, scope = self._decide(call)
        if decision.place is Place.NOWHERE:
            return Errno(decision.reason, code=errno.ENOENT, scope=scope)
        if decision.place is Place.HERE:
            if decision.path == call.path:
                return Untouched(decision.reason, scope=scope)
            return self._below(self._top, decision, scope)
        if decision.place is Place.UNDECIDED:
            return self._undecided(decision)
        if call.name == "other" and (here := goes_on(call, decision)):
            return self._goes_on(call, here)
        if self._tree is None:
            return Errno("fs: the session is over", code=errno.EIO)
        if call.write and call.name in ("open", "change"):
            return self._written(call, decision, scope)
        follow = call.follow and call.name != "readlink"
        try:
            seen = self._tree.questions.seed(decision.path, follow, content=call.name == "open")
        except OSError as error:
            return _failed(decision, error)
        if call.name == "watch":
            return self._watched(decision, seen)
        if isinstance(seen, Seen):
            return self._seen(call, decision, seen, scope)
        return self._later(call, decision, seen, scope)

    def _written(self, call: Call, decision: Decision, scope: Scope) -> Verdict | Awaitable[Verdict]:
        """The kernel will ask for each name on the way: asked for at once. What is missing may be made."""
        verdict = self._below(self._mount.root, decision, scope) if self._mount else None
        if verdict is None or self._tree is None:
            return Errno("fs: the session is over", code=errno.EIO)
        try:
            seen = self._tree.questions.seed(decision.path, call.follow, content=False)
        except OSError:
            return verdict
        return verdict if isinstance(seen, Seen) else self._written_later(verdict, seen)

    @staticmethod
    async def _written_later(verdict: Verdict, asked: Awaitable[Seen]) -> Verdict:
        with contextlib.suppress(OSError):  # the call itself says what is wrong
            await asked
        return verdict

    def _decide(self, call: Call) -> tuple[Decision, Scope]:
        """By the rules, and by what the program has changed here."""
        decision = self._rules.decide(call.path, call.write)
        if call.write:
            if decision.place is Place.HERE and call.name != "access":
                self._changes(call.path)
            return decision, Scope.CALL
        if not self._own.covers(call.path):
            return decision, Scope.CALL
        written = self._rules.decide(call.path, True)
        if written.place is Place.HERE and os.path.lexists(written.path):
            return Decision(Place.HERE, f"{written.reason}; changed here before", written.path), Scope.ONCE
        return decision, Scope.ONCE

    def _changes(self, path: bytes) -> None:
        """The program changes here what it reads from the target."""
        if self._rules.decide(path, False).place is not Place.TARGET or not self._own.add(path):
            return
        for name in READING:
            self._forget(Call(name, path))
        if self._own.full and not self._told_full:
            self._told_full = True
            self.log.warning(
                "more than %d of the target's names were changed here: the first are read from it again",
                MOST,
            )

    def _undecided(self, decision: Decision) -> Errno:
        """An error for the program, and once a word for who wrote the pattern."""
        if decision.reason not in self._told:
            self._told |= {decision.reason}
            self.log.warning("%s; such paths fail with EIO until it is written more simply", decision.reason)
        return Errno(decision.reason, code=errno.EIO, scope=Scope.CALL)

    def _goes_on(self, call: Call, verdict: Untouched) -> Untouched:
        if call.system not in self._told and call.system != "chdir":
            self._told |= {call.system}
            self.log.warning("%s of %s: %s", call.system, os.fsdecode(call.path), verdict.reason)
        return verdict

    async def _later(self, call: Call, decision: Decision, asked: Awaitable[Seen], scope: Scope) -> Verdict:
        try:
            return self._seen(call, decision, await asked, scope)
        except OSError as error:
            return _failed(decision, error)

    async def _watched(self, decision: Decision, seen: Seen | Awaitable[Seen]) -> Verdict:
        """The watch is on a stand-in, to which is done what happens in the target."""
        if self._standins is None:
            return Errno("fs: the session is over", code=errno.EIO)
        try:
            node = (seen if isinstance(seen, Seen) else await seen).node
            root, name = await self._standins.of(node.path)
        except OSError as error:
            return _failed(decision, error)
        return OtherPath(decision.reason, root=root, path=name)

    def _seen(self, call: Call, decision: Decision, seen: Seen, scope: Scope) -> Verdict:
        if call.name == "readlink":
            if not seen.attr.is_link:
                return Errno(f"{decision.reason}; not a link", code=errno.EINVAL)
            return Text(decision.reason, value=seen.link)
        if self._mount is None:
            return Errno("fs: the session is over", code=errno.EIO)
        return self._below(self._mount.root, decision, scope)

    @staticmethod
    def _below(root: int, decision: Decision, scope: Scope) -> OtherPath:
        return OtherPath(decision.reason, root=root, path=decision.path.lstrip(b"/") or b".", scope=scope)


def _failed(decision: Decision, error: OSError) -> Errno:
    """What the target's kernel said, with the rule that sent the call there."""
    code = error.errno or errno.EIO
    return Errno(f"{decision.reason}; in the target: {os.strerror(code)}", code=code)


def _summary(config: keys.Config, rules: Rules) -> str:
    if rules.mode == "localwithoverrides":
        text = "from this machine, except what the lists give to the target"
    elif rules.mode == "write":
        text = "read and written in the target where no list keeps them here"
    else:
        text = "read from the target where no list keeps them here; written here"
    lists = {
        "read_write": config.read_write,
        "read_only": config.read_only,
        "local": config.local,
        "remote": config.remote,
        "not_found": config.not_found,
        "mapping": config.mapping,
    }
    named = ", ".join(f"{len(entries)} {name}" for name, entries in lists.items() if entries)
    return f"{text} ({named})" if named else text
