"""Much at once and much in sequence: `outgoing_load.py CASE TARGET`, prints JSON."""

import asyncio
import contextlib
import errno
import hashlib
import json
import resource
import select
import socket
import sys
import threading
import time

from servers import pieces
from session import SETTLED, counts, resident, settled

from pymirror.features.network.outgoing.stock import KEPT

GIB, STALLED, MANY = 1 << 30, 32 << 20, 300
HOST = "10.77.0.1"
TARGET = sys.argv[2]
QUIET = {name: counts(TARGET)[name] for name in ("here", "there")}


def connect(port):
    return socket.create_connection((HOST, port))


def sum_of(size):
    found = hashlib.sha256()
    for piece in pieces(size):
        found.update(piece)
    return found.hexdigest()


def sent(sock, size):
    """What the server tells of `size` bytes."""
    for piece in pieces(size):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()


def received(sock):
    found = hashlib.sha256()
    while data := sock.recv(1 << 20):
        found.update(data)
    return found.hexdigest()


def asked(size):
    sock = connect(7002)
    sock.sendall(b"%d\n" % size)
    return sock


def filled(*socks):
    """Bytes that were taken until no more were."""
    [sock.setblocking(False) for sock in socks]
    taken = 0
    while ready := select.select([], socks, [], 1)[1]:
        taken += sum(sock.send(bytes(1 << 16)) for sock in ready)
    return taken


def gigabyte():
    """One up and one down at once, while a stream here is not read, and one over there neither."""
    found = {}
    with asked(STALLED) as stalled, connect(7009) as unread, connect(7007) as full:
        taken = filled(full)
        late = threading.Thread(target=lambda: found.update(unread=sent(unread, STALLED)))

        def up():
            with connect(7003) as sock:
                found["up"] = sent(sock, GIB)

        def down():
            with asked(GIB) as sock:
                found["down"] = received(sock)

        both = [threading.Thread(target=each) for each in (up, down)]
        [each.start() for each in (late, *both)]
        [each.join() for each in both]
        waited = "unread" not in found
        most = resident("VmHWM")
        found["stalled"] = received(stalled)
        connect(7018).close()
        late.join()
    whole, part = sum_of(GIB), sum_of(STALLED)
    equal = found == {"up": whole, "down": whole, "stalled": part, "unread": part}
    return {"equal": equal, "waited": waited, "held up": taken < STALLED, "most": most}


def many_stalled():
    """300 are not read here and 300 not there; what they leave is enough for another, both ways."""
    down, up = [asked(STALLED) for _ in range(MANY)], [connect(7007) for _ in range(MANY)]
    held_up = filled(*up) < MANY * STALLED
    with asked(4 << 20) as there, connect(7003) as here:
        equal = received(there) == sent(here, 4 << 20) == sum_of(4 << 20)
    most = resident("VmHWM")
    [sock.close() for sock in down + up]
    return {"equal": equal, "held up": held_up, "most": most}


def at_rest(wanted):
    """The counts at their most while the agent's stock of sockets is used up and filled again, twice.

    It is full after the connection that found it half empty, which is at least one in so many.
    """
    seen = []
    for _ in range(KEPT + 2):
        connect(7001).close()
        seen.append(settled(TARGET, wanted))
    return max(seen, key=lambda each: each["agent"])


def rest(counts):
    """What each look must find again; the agent's own are more and fewer with its stock."""
    return {name: count for name, count in counts.items() if name != "agent"}


async def thousand():
    """Each carries bytes both ways, twice, and all are open in between."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before = await asyncio.to_thread(at_rest, QUIET)  # the first makes the relay
    all_open = asyncio.Event()
    arrived = []

    async def one(number):
        reader, writer = await asyncio.open_connection(HOST, 7001)
        await reader.readline()
        for _ in range(2):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
            arrived.append(number)
            if len(arrived) == 1000:
                all_open.set()
            await all_open.wait()
        writer.close()
        await writer.wait_closed()

    ones = asyncio.gather(*(one(number) for number in range(1000)))
    await all_open.wait()
    memory, there = resident(), counts(TARGET)["there"] - QUIET["there"]
    await ones
    left = await asyncio.to_thread(at_rest, rest(before))
    return {"carried": len(arrived), "there": there, "memory": memory, "left": [left, before]}


def one_after_the_other():
    """10,000, each with bytes both ways."""

    def one(number):
        with connect(7001) as sock:
            sock.sendall(b"%d" % number)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(1 << 12), b"")).endswith(b"\n%d" % number)

    for number in range(100):
        one(number)
    before = at_rest(QUIET)
    memory = resident()
    carried = sum(one(number) for number in range(10_000))
    return {"carried": carried, "left": [at_rest(rest(before)), before], "memory": [memory, resident()]}


def code():
    """0, or the errno of one more connection."""
    try:
        connect(7001).close()
    except OSError as error:
        return error.errno
    return 0


def beyond():
    """As many as there may be, which stay usable; then one is closed, and another takes its place."""

    def carries(sock):
        sock.sendall(b"still here")
        return next(data for data in iter(lambda: sock.recv(99), b"") if data.endswith(b"still here"))

    held = []
    with contextlib.suppress(OSError):
        while len(held) < 1000:
            held.append(connect(7001))
    refused, carried = errno.errorcode[code()], [carries(sock) for sock in held]
    held[0].close()
    until = time.monotonic() + SETTLED
    while (last := code()) and time.monotonic() < until:
        time.sleep(0.05)
    return {"most": len(held), "refused": refused, "carried": len(carried), "again": last}


case = globals()[sys.argv[1]]
print(json.dumps(asyncio.run(case()) if asyncio.iscoroutinefunction(case) else case()))
