"""Run by files.py, natively and under pymirror: times calls on FOLDER, prints us and MB/s as JSON."""

import json
import os
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
    }
    print(json.dumps(found))


main(sys.argv[1])
