"""Run by files.py, natively and under pymirror: times calls on FOLDER, prints us and MB/s as JSON."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable


def each(names: Iterable[str], work: Callable[[str], object]) -> float:
    """Median microseconds of `work` over the names, each used once."""
    taken = []
    for name in names:
        begin = time.perf_counter_ns()
        work(name)
        taken.append(time.perf_counter_ns() - begin)
    return sorted(taken)[len(taken) // 2] / 1000


def read(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 65536)
    os.close(fd)


def listing(path: str) -> float:
    begin = time.perf_counter_ns()
    for entry in os.scandir(path):
        entry.stat(follow_symlinks=False)
    return (time.perf_counter_ns() - begin) / 1000


def sequential(path: str) -> float:
    size, buffer = 0, bytearray(1 << 20)
    begin = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size += count
    return size / 1e6 / (time.perf_counter() - begin)


def write(path: str) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, b"x" * 4000)
    os.close(fd)


def written(path: str, size: int, total: int) -> float:
    """MB/s of as many writes of `size` bytes, with the close, which has all of it arrive."""
    block = b"x" * size
    begin = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(total // size):
            file.write(block)
    return total / 1e6 / (time.perf_counter() - begin)


def changes(folder: str) -> dict[str, float]:
    os.mkdir(f"{folder}/new")
    names = [f"{folder}/new/{i}" for i in range(200)]
    found = {
        "sequential write": written(f"{folder}/new/large", 1 << 20, 256 << 20),
        "writes of 4 KiB": written(f"{folder}/new/small", 4096, 64 << 20),
        "create+write+close": each(names, write),
        "chmod": each(names, lambda path: os.chmod(path, 0o600)),
        "rename": each(names, lambda path: os.rename(path, path + "r")),
        "unlink": each(names, lambda path: os.unlink(path + "r")),
        "mkdir": each(names, os.mkdir),
        "rmdir": each(names, os.rmdir),
    }
    shutil.rmtree(f"{folder}/new")
    return found


def main(folder: str) -> None:
    stats = [f"{folder}/stat/{i}" for i in range(300)]
    reads = [f"{folder}/read/{i}" for i in range(300)]
    os.stat(f"{folder}/stat"), os.stat(f"{folder}/read")
    found = {
        "stat, cold": each(stats, os.stat),
        "stat, warm": each(stats, os.stat),
        "open+read+close, cold": each(reads, read),
        "open+read+close, warm": each(reads, read),
        "ls -l of 1,000": listing(f"{folder}/list"),
        "sequential read": sequential(f"{folder}/large"),
        **changes(folder),
    }
    print(json.dumps(found))


main(sys.argv[1])
