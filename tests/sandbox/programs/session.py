"""What a program under `pymirror exec` sees of its session: the layer, which is its parent, and the agent.

Sizes and counts, no times. What the kernel alone keeps of a connection (TIME_WAIT) is nobody's.
"""

import contextlib
import os
import time

LISTEN, TIME_WAIT = "0A", "06"
SETTLED = 30.0
"""Seconds until what was closed must be gone."""


def text(path):
    with open(path) as file:
        return file.read()


def pids():
    """(the layer's, the agent's)."""
    layer = os.getppid()
    children = text(f"/proc/{layer}/task/{layer}/children").split()
    [agent] = [int(pid) for pid in children if "pymirror.agent" in text(f"/proc/{pid}/cmdline")]
    return layer, agent


def resident(field="VmRSS"):
    """MiB of the layer and of the agent; VmHWM: the most there ever were."""
    status = [dict(line.split(":", 1) for line in text(f"/proc/{pid}/status").splitlines()) for pid in pids()]
    return [int(fields[field].split()[0]) >> 10 for fields in status]


def connections(pid):
    """(state, local port, remote port, inode) of each TCP socket in the network of a process."""
    for name in ("tcp", "tcp6"):
        for line in text(f"/proc/{pid}/net/{name}").splitlines()[1:]:
            _, local, remote, state, *_, inode = line.split()[:10]
            yield state, local.rpartition(":")[2], remote.rpartition(":")[2], inode


def held(pid):
    """(inodes of its sockets, how many descriptors it has)."""
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {link[8:-1] for link in links if link.startswith("socket:[")}, len(links)


def counts(target):
    """Descriptors of the layer and the agent; connections to the relay, and in the network of the target."""
    layer, agent = pids()
    here, there = (
        list(connections("self")),
        list(connections(target)),
    )  # first: closed there, it has no descriptor
    sockets, descriptors = held(layer)
    relays = {port for state, port, _, inode in here if state == LISTEN and inode in sockets}
    alive = [{local, remote} for state, local, remote, _ in here if state not in (LISTEN, TIME_WAIT)]
    return {
        "layer": descriptors,
        "agent": held(agent)[1],
        "here": sum(bool(ports & relays) for ports in alive),
        "there": sum(state not in (LISTEN, TIME_WAIT) for state, *_ in there),
    }


def settled(target, wanted):
    """The counts once they are as in `wanted`, or as they stay."""
    until = time.monotonic() + SETTLED
    while wanted.items() - (found := counts(target)).items() and time.monotonic() < until:
        time.sleep(0.05)
    return found
