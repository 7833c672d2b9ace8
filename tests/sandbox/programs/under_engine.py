"""Runs a program under the engine with a toy dispatch, as `pymirror exec` would; used by test_engine_*.

usage: under_engine.py ROOT REPORT [--skip NAME] [--known TREE] [--mapping FOLDER] -- PROGRAM ARGS…

/remote-demo is taken from ROOT/remote-demo, the host name is "pod-host", /remote-demo/gone is ENOENT
whatever ROOT holds. /remote-mapped is FOLDER, a path of this machine. REPORT gets the pump's counters and the questions, as JSON, at the end. A line
"running PID" goes to stderr once the program runs.
"""

import argparse
import asyncio
import errno
import json
import os
import shutil
import sys
from pathlib import Path

from pymirror.core.call import CALLS, Call, Errno, OtherPath, Scope, Text, Untouched, Verdict
from pymirror.core.errors import PymirrorError
from pymirror.layer.engines.seccomp.engine import Engine
from pymirror.layer.guard import Guard
from pymirror.layer.launch import expect_children
from pymirror.layer.other import settled

SESSION = f"test-{os.getpid()}"


class Toy:
    def __init__(self, root: str, mapping: str) -> None:
        self.folder = root
        self.mapping = os.fsencode(mapping)
        self.top = os.open("/", os.O_PATH | os.O_DIRECTORY)
        self.root = os.open(root, os.O_PATH | os.O_DIRECTORY)
        self.asked: list[list[str]] = []

    async def __call__(self, call: Call) -> Verdict:
        words = [call.name, os.fsdecode(call.path), "write" if call.write else "read"]
        self.asked.append([*words, call.system] if call.system else words)
        return settled(call, self.decide(call))

    def decide(self, call: Call) -> Verdict:
        if call.name == "hostname":
            return Text("toy", value=b"pod-host", scope=Scope.CALL)
        if self.mapping and (call.path + b"/").startswith(b"/remote-mapped/"):
            path = self.mapping + call.path[len(b"/remote-mapped") :]
            return OtherPath("toy: mapping", root=self.top, path=path[1:], scope=Scope.CALL)
        if not (call.path + b"/").startswith(b"/remote-demo/"):
            return Untouched("toy: not the demo", scope=Scope.CALL)
        if call.path == b"/remote-demo/gone":
            return Errno("toy: gone", code=errno.ENOENT, scope=Scope.CALL)
        if call.name == "readlink":
            try:
                return Text("toy", value=os.readlink(os.fsencode(self.folder) + call.path))
            except OSError as error:
                return Errno("toy", code=error.errno or errno.EIO)
        return OtherPath("toy: demo", root=self.root, path=call.path[1:], scope=Scope.CALL)


def report(path: str, what: dict[str, object]) -> None:
    Path(path).write_text(json.dumps(what))


async def run(options: argparse.Namespace) -> int:
    expect_children()
    guard = Guard.start()
    guard.session(SESSION)
    guard.remove(options.report + ".leftover")
    toy = Toy(options.root, options.mapping)
    program = options.program
    engine = Engine(frozenset(options.skip), shutil.which(program[0]) or program[0], guard)
    try:
        engine.check(CALLS)
        for tree in options.known:
            for name in ("open", "stat", "access", "readlink"):
                engine.learn(Call(name), Untouched("known", scope=Scope.TREE, tree=os.fsencode(tree)))
        running = await engine.start(program, {**os.environ, "PYMIRROR_SESSION": SESSION}, CALLS, toy)
        print("running", running.pid, file=sys.stderr, flush=True)
        status = await running.wait()
        report(options.report, {"counters": engine.counters(), "asked": toy.asked})
    except PymirrorError as error:
        print(error, file=sys.stderr)
        status = error.exit_status
    await engine.aclose()
    guard.close()
    return status


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("report")
    parser.add_argument("--skip", action="append", default=[])
    parser.add_argument("--known", action="append", default=[])
    parser.add_argument("--mapping", default="")
    border = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:border])
    options.program = sys.argv[border + 1 :]
    return asyncio.run(run(options))


sys.exit(main())
