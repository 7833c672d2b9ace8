"""Programs in many languages see what the pod itself shows: the same probe says it there and here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, RESTRICTED, Place, need, own_namespace

pytestmark = pytest.mark.cluster

LAY_OUT = r"""
cd /data
printf 'hello\n' > file; : > empty; head -c 4000 /dev/urandom > binary; printf 'x' > 'späce and ü'
mkdir sub sub/deeper; printf 'deep\n' > sub/deeper/file; chmod 2750 sub; chmod 1777 sub/deeper; chmod 640 file
ln file hard; ln -s file relative; ln -s /data/file absolute; ln -s /data/absolute absolute2
ln -s ../data/sub/deeper up; ln -s /data/sub folder; ln -s nowhere dangling; ln -s loop loop; mkfifo fifo
for i in $(seq 1000); do echo "number $i" > sub/deeper/$i.txt; done
"""
SEEN = [
    *(
        f"/data/{n}"
        for n in "file empty binary hard relative absolute absolute2 up folder dangling loop fifo".split()
    ),
    "/data",
    "/data/späce and ü",
    "/data/sub",
    "/data/folder/deeper/file",
    "/data/up/7.txt",
    "/data/none",
    "/data/file/",
    "/data/file/below",
    "/data/sub/../file",
    "/config",
    "/config/colour",
    "/secret/password",
    "$GREETING",
    "$FROM_SECRET",
    "$FROM_CONFIG",
    "$KUBERNETES_SERVICE_HOST",
    "$NOT_THERE",
    "@host",
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The compiled probes, each once: `c` (static, musl) and `go` (static)."""
    folder = tmp_path_factory.mktemp("probes")

    def build(kind: str) -> Path:
        path = folder / f"probe-{kind}"
        if not path.exists():
            if kind == "c":
                need("musl-gcc")
                command = ["musl-gcc", "-static", "-O1", "-o", str(path), str(PROBES / "probe.c")]
            else:
                need("go")
                command = ["go", "build", "-o", str(path), str(PROBES / "probe.go")]
            subprocess.run(command, check=True, env={**os.environ, "CGO_ENABLED": "0"}, timeout=300)
        return path

    return build


KINDS = {"job": (), "ephemeral": ("-e",), "restricted": ("-e",)}


@pytest.fixture(scope="module", params=list(KINDS))
def place(cluster: Any, built: Callable[[str], Path], request: pytest.FixtureRequest) -> Iterator[Place]:
    restricted = request.param == "restricted"
    with own_namespace(cluster, f"sees-{request.param}", restricted) as name:
        for kind, key, field in (("ConfigMap", "colour", "data"), ("Secret", "password", "stringData")):
            thing = {"apiVersion": "v1", "kind": kind, "metadata": {"name": key}, field: {key: f"the {key}"}}
            cluster.apply(thing, name)
        cluster.apply(pod(restricted), name)
        cluster.kubectl("wait", "-n", name, "--for=condition=Ready", "pod/web", "--timeout=50s")
        made = Place(cluster, name, KINDS[request.param])
        made.in_pod("sh", "-c", LAY_OUT)
        made.in_pod("sh", "-c", "cat > /tmp/probe; chmod 755 /tmp/probe", given=built("c").read_bytes())
        yield made


def pod(restricted: bool) -> dict[str, Any]:
    main: dict[str, Any] = {
        "name": "main",
        "image": "localhost/busybox:1",
        "command": ["sleep", "infinity"],
        "env": [
            {"name": "GREETING", "value": "hello = wörld; $(x)"},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "password", "key": "password"}}},
            {"name": "FROM_CONFIG", "valueFrom": {"configMapKeyRef": {"name": "colour", "key": "colour"}}},
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "config", "mountPath": "/etc/app"},
            {"name": "config", "mountPath": "/etc/one/colour", "subPath": "colour"},
        ],
    }
    if restricted:
        main["securityContext"] = RESTRICTED
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{**main, "name": "side", "env": []}, main],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "colour"}},
            {"name": "secret", "secret": {"secretName": "password"}},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": spec,
    }


LANGUAGES = {
    "c": lambda built: [str(built("c"))],
    "go": lambda built: [str(built("go"))],
    "python": lambda built: [sys.executable, str(PROBES / "probe.py")],
    "node": lambda built: need("node") or ["node", str(PROBES / "probe.mjs")],
    "java": lambda built: need("java") or ["java", str(PROBES / "Probe.java")],
    "bash": lambda built: ["bash", str(PROBES / "probe.sh")],
}
# errno beside ENOENT, and a path's trailing slash, are not to be had in these (the JVM drops the slash).
ONLY_PLAIN = {"java": {"/data/file/", "/data/file/below"}, "bash": {"/data/file/", "/data/file/below"}}


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_every_language_sees_what_the_pod_shows(
    place: Place, built: Callable[[str], Path], language: str
) -> None:
    asked = [word for word in SEEN if word not in ONLY_PLAIN.get(language, ())]
    expected = place.in_pod("/tmp/probe", *asked).decode().splitlines()
    found = place.exec(*LANGUAGES[language](built), *asked).decode().splitlines()
    assert found == expected


def test_go_run_by_a_mirrord_file(place: Place, tmp_path: Path) -> None:
    """The issue's first line: `pymirror exec -f .mirrord/mirrord.json -- go run main.go`."""
    need("go")
    shutil.copy(PROBES / "probe.go", tmp_path / "main.go")
    (tmp_path / ".mirrord").mkdir()
    target = {"path": {"pod": "web", "container": "main"}, "namespace": place.namespace}
    agent = {"ephemeral": bool(place.flags)}
    text = json.dumps(
        {"target": target, "agent": agent, "feature": {"network": False, "fs": "read", "env": True}}
    )
    (tmp_path / ".mirrord/mirrord.json").write_text(f"// comments are fine\n{text[:-1]},}}\n")
    expected = place.in_pod("/tmp/probe", *SEEN)
    assert (
        place.exec("go", "run", "main.go", *SEEN, folder=tmp_path, config=".mirrord/mirrord.json") == expected
    )


VOLUMES = """
cat /etc/app/colour /etc/one/colour; ls /etc/app; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace
echo; cat /etc/group | md5sum; f=$(mktemp); echo here > $f; cat $f; rm $f
"""


@pytest.mark.parametrize("mode", ["read", "localwithoverrides"])
def test_volumes_below_trees_of_this_machine(place: Place, tmp_path: Path, mode: str) -> None:
    """A ConfigMap's folder below /etc, one file of it alone, the account's; /tmp, an emptyDir, stays the program's."""
    assert b"colour" not in place.exec("sh", "-c", "ls -d /etc/app /etc/one/colour 2>/dev/null; true")
    target = {"path": {"pod": "web", "container": "main"}, "namespace": place.namespace}
    chosen = {"network": False, "fs": mode, "magic": {"auto_mount": True}}
    config = tmp_path / "pymirror.json"
    config.write_text(
        json.dumps({"target": target, "agent": {"ephemeral": bool(place.flags)}, "feature": chosen})
    )
    groups = hashlib.md5(Path("/etc/group").read_bytes(), usedforsecurity=False).hexdigest()
    assert place.exec("sh", "-c", VOLUMES, config=str(config)).decode().splitlines() == [
        "the colourthe colourcolour",
        place.namespace,
        f"{groups}  -",
        "here",
    ]


def test_cat_and_pipelines(place: Place) -> None:
    assert place.exec("cat", "/data/absolute2") == b"hello\n"
    piped = (
        "cat /data/sub/deeper/*.txt | sort -n | md5sum; wc -c < /data/binary; ls /data/folder/deeper | wc -l"
    )
    assert place.exec("bash", "-c", piped) == place.in_pod("sh", "-c", piped)


THREADS = """
import concurrent.futures, hashlib, sys
def one(i):
    with open(f"/data/sub/deeper/{i}.txt", "rb") as file:
        return file.read()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(hashlib.sha256(b"".join(pool.map(one, range(1, 1001)))).hexdigest())
"""


def test_a_thousand_files_by_eight_threads(place: Place) -> None:
    content = b"".join(b"number %d\n" % i for i in range(1, 1001))
    assert place.exec(sys.executable, "-c", THREADS).decode().strip() == hashlib.sha256(content).hexdigest()


def test_names_that_are_not_utf8(place: Place) -> None:
    place.in_pod("sh", "-c", "mkdir /data/odd && cd /data/odd && echo odd > \"$(printf 'a\\377b')\"")
    listed, content = place.exec("bash", "-c", "ls /data/odd; cat /data/odd/*").splitlines()
    assert (listed, content) == (b"a\xffb", b"odd")


BULK = """
import hashlib, mmap, os, sys
path, out = "/data/bulk", sys.argv[1]
size = os.stat(path).st_size
with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
    print(hashlib.sha256(view).hexdigest())
with open(path, "rb") as file, open(out + "/sent", "wb") as copy:
    at = 0
    while at < size:
        at += os.sendfile(copy.fileno(), file.fileno(), at, size - at)
with open(path, "rb") as file, open(out + "/copied", "wb") as copy:
    left = size
    while left:
        try:
            done = os.copy_file_range(file.fileno(), copy.fileno(), left)
        except OSError as error:  # as natively between any two file systems of a different kind
            import errno, shutil
            assert error.errno == errno.EXDEV
            shutil.copyfileobj(file, copy)
            break
        left -= done
for name in ("sent", "copied"):
    print(hashlib.sha256(open(out + "/" + name, "rb").read()).hexdigest())
"""


def test_a_large_file(place: Place, tmp_path: Path) -> None:
    place.in_pod("sh", "-c", "head -c 268435456 /dev/urandom > /data/bulk")
    expected = place.in_pod("sha256sum", "/data/bulk").split()[0]
    try:
        assert place.exec("sha256sum", "/data/bulk").split()[0] == expected
        assert place.exec(sys.executable, "-c", BULK, str(tmp_path)).split() == [expected] * 3
    finally:
        place.in_pod("rm", "/data/bulk")


def test_a_growing_and_a_replaced_file(place: Place) -> None:
    place.in_pod("sh", "-c", "echo one > /data/log; echo old > /data/replaced")
    tail = place.start("tail", "-n", "+1", "-f", "/data/log")
    reader = place.start(
        sys.executable, "-uc", "import sys\nfor _ in sys.stdin: print(open('/data/replaced').read(), end='')"
    )
    try:
        assert tail.stdout and reader.stdin and reader.stdout
        assert tail.stdout.readline() == b"one\n"
        for word in ("two", "three"):
            place.in_pod("sh", "-c", f"echo {word} >> /data/log")
            assert tail.stdout.readline() == word.encode() + b"\n"
        for word in ("old", "new", "newer"):
            if word != "old":
                place.in_pod("sh", "-c", f"echo {word} > /data/next && mv /data/next /data/replaced")
            assert settled(reader, word.encode() + b"\n")
    finally:
        for process in (tail, reader):
            process.terminate()
            process.communicate()


def settled(reader: subprocess.Popen[bytes], wanted: bytes) -> bool:
    """Asks again until the push of a change, which takes its own way, has arrived; bounded."""
    assert reader.stdin and reader.stdout
    for _ in range(200):
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        if reader.stdout.readline() == wanted:
            return True
    return False


def test_what_stays_here_stays_here(place: Place, tmp_path: Path) -> None:
    """Each with a rule: the system, the temporary folder, code, the current directory."""
    (tmp_path / "own.txt").write_text("mine\n")
    (tmp_path / "module.py").write_text("answer = 42\n")
    here = f"cat {tmp_path}/own.txt; cat own.txt; head -c 20 /etc/passwd; echo made > {tmp_path}/made; cat {tmp_path}/made"
    expected = b"mine\nmine\n" + Path("/etc/passwd").read_bytes()[:20] + b"made\n"
    assert place.exec("bash", "-c", here, folder=tmp_path) == expected
    own = "import module, json, ssl, sqlite3; print(module.answer, json.__file__)"
    assert place.exec(
        sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {own}", folder=tmp_path
    ) == (f"42 {json.__file__}\n".encode())


IMPORTS = {
    "node": (
        {
            "app.cjs": """
const fs = require('fs'), own = require('./own.cjs'), kept = require('kept');
import('./own.mjs').then(({ word }) => {
    console.log(own.word, kept.word, word, fs.readFileSync('/data/file', 'utf8').trim());
});
""",
            "own.cjs": "exports.word = 'own';",
            "own.mjs": "export const word = 'module';",
            "node_modules/kept/index.js": "exports.word = 'kept';",
        },
        (),
        ("node", "app.cjs"),
        b"own kept module hello\n",
    ),
    "go": (
        {
            "go.mod": "module example/app\n\ngo 1.21\n",
            "own/own.go": 'package own\n\nconst Word = "own"\n',
            "app.go": """
package main

import (
    "example/app/own"
    "fmt"
    "os"
)

func main() {
    text, err := os.ReadFile("/data/file")
    if err != nil {
        panic(err)
    }
    fmt.Print(own.Word, " ", string(text))
}
""",
        },
        (),
        ("go", "run", "."),
        b"own hello\n",
    ),
    "java": (
        {
            "code/kept/Own.java": 'package kept; public class Own { public static String word() { return "own"; } }',
            "code/App.java": """
public class App {
    public static void main(String[] words) throws Exception {
        String text = java.nio.file.Files.readString(java.nio.file.Path.of("/data/file"));
        System.out.print(kept.Own.word() + " " + text);
    }
}
""",
        },
        ("javac", "-d", "classes", "code/kept/Own.java", "code/App.java"),
        ("java", "-cp", "classes", "App"),
        b"own hello\n",
    ),
}
"""Files, what is run once before, the program, and what it says: a word of each module, and a file of the pod."""


@pytest.mark.parametrize("language", list(IMPORTS))
def test_a_program_imports_what_is_here(place: Place, tmp_path: Path, language: str) -> None:
    files, build, command, said = IMPORTS[language]
    need(*build[:1], command[0])
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if build:
        subprocess.run(build, cwd=tmp_path, check=True, timeout=100)
    assert place.exec(*command, folder=tmp_path) == said


def test_streams_are_the_programs_own(place: Place) -> None:
    data = os.urandom(300_000)
    assert place.exec("cat", given=data) == data
