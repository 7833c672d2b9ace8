"""Many threads that wait for the network at once: `outgoing_waiting.py CASE TARGET THREADS`, prints JSON."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

THREADS, HOST = int(sys.argv[3]), "10.77.0.1"
SYN_SENT = "02"
SENDTO, RECVFROM = {"x86_64": ("44", "45"), "aarch64": ("206", "207")}[os.uname().machine]
LONGEST = 40.0


def until(enough):
    """Its last value: once it is THREADS, or after LONGEST seconds, so that a failure is told."""
    end = time.monotonic() + LONGEST
    while (found := enough()) != THREADS and time.monotonic() < end:
        time.sleep(0.02)
    return found


def dialing():
    """Connects of the agent that nobody has answered."""
    lines = Path(f"/proc/{sys.argv[2]}/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[3] == SYN_SENT for line in lines)


def begin(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def greeted():
    """A whole connection, and what else is put to pymirror."""
    with socket.create_connection((HOST, 7001)) as sock:
        host, port = sock.makefile("rb").readline().decode().split()
        return sock.getpeername() == (HOST, 7001) and sock.getsockname() == (host, int(port))


def connects():
    """Most sockets to where nobody answers."""
    socks = [socket.socket() for _ in range(THREADS)]
    for sock in socks:
        begin(sock.connect, ("10.80.0.1", 80))
    waiting = until(dialing)
    found = [greeted() for _ in range(20)]
    return {"waiting": waiting, "greeted": all(found), "file": os.stat("/etc/hostname").st_size > 0}


def call_of(thread):
    try:
        return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0]
    except OSError:
        return ""


def receives():
    """How many are told the true sender of what comes while they wait, two on each socket."""
    found, failed = [], []
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(THREADS // 2)]

    def receive(sock):
        try:
            found.append(sock.recvfrom(100))
        except OSError as error:
            failed.append(error.errno)

    for sock in socks:
        sock.bind(("0.0.0.0", 0))
    threads = [begin(receive, sock) for sock in socks * 2]
    waiting = until(lambda: sum(call_of(each) == call_of(threads[0]) for each in threads))
    greeting = greeted()
    for sock in socks * 2:
        sock.sendto(b"x", (HOST, 7010))
    for each in threads:
        each.join(LONGEST / 4)
    right = found.count((b"7010 x", (HOST, 7010)))
    return {"waiting": waiting, "greeted": greeting, "right": right, "all": len(found), "failed": failed}


def agent():
    words = f"--pid={sys.argv[2]} "
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = each.read_text().replace("\0", " ")
        except OSError:
            continue
        if "-m pymirror.agent" in command and words in command:
            return int(each.parent.name)
    raise LookupError(words)


def sends():
    """First datagrams while the agent stands still; afterwards each has left, and one more has its answer."""
    sent, failed = [], []
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(THREADS)]

    def send(sock):
        try:
            sent.append(sock.sendto(b"x", (HOST, 7010)))
        except OSError as error:
            failed.append(error.errno)

    stopped = agent()
    os.kill(stopped, signal.SIGSTOP)
    try:
        threads = [begin(send, sock) for sock in socks]
        waiting = until(lambda: sum(call_of(each) == SENDTO for each in threads))
        size = os.stat("/etc/hostname").st_size
        still = sum(call_of(each) == SENDTO for each in threads)
    finally:
        os.kill(stopped, signal.SIGCONT)
    sent_all = until(lambda: len(sent) + len(failed))
    return {
        "waiting": waiting,
        "file": size > 0,
        "still": still,
        "sent": sent_all,
        "failed": failed,
        "answer": answered(socks[0]),
    }


def answered(sock):
    """So many at once may have been too many for the server, which is told again then."""
    sock.settimeout(1)
    for _ in range(10):
        sock.sendto(b"again", (HOST, 7010))
        with contextlib.suppress(TimeoutError):
            while (answer := sock.recvfrom(100)) == (b"7010 x", (HOST, 7010)):
                pass
            return answer == (b"7010 again", (HOST, 7010))
    return None


def killed():
    """How many ports of THREADS are free as soon as who waited for a datagram there is gone."""
    free = 0
    for _ in range(THREADS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        child = os.fork()
        if not child:
            sock.recvfrom(10)
        place = sock.getsockname()
        sock.close()
        while Path(f"/proc/{child}/syscall").read_text().split()[0] != RECVFROM:
            time.sleep(0.001)
        time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        free += is_free(place)
    return {"free": free > 0}


def shut():
    """A thread that waits on a socket is ended by shutdown(), as servers end theirs."""
    found = []
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    thread = begin(lambda: found.append(sock.recvfrom(10)))
    until(lambda: THREADS * (call_of(thread) == RECVFROM))
    time.sleep(0.05)
    with contextlib.suppress(OSError):  # it is not connected, and woken all the same
        sock.shutdown(socket.SHUT_RD)
    thread.join(LONGEST / 4)
    return {"found": [[data.decode(), sender] for data, sender in found]}


def groups():
    """A signal is noticed by who has many groups, too: they stand before it in what the kernel tells."""
    os.setgroups(range(1000, 1400))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sent = []

    def late():
        time.sleep(5)
        sent.append(sock.sendto(b"late", sock.getsockname()))

    def handler(*_):
        raise InterruptedError

    signal.signal(signal.SIGALRM, handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # inherited: it is for this thread alone
    begin(late)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        sock.recvfrom(10)
    except InterruptedError:
        return {"before it came": not sent}
    return {"before it came": None}


def together():
    """Threads that send from one socket to a peer it has not sent to: its answers have one sender."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(LONGEST / 4)
    barrier = threading.Barrier(THREADS)

    def send():
        barrier.wait()
        sock.sendto(b"x", (HOST, 7010))

    threads = [begin(send) for _ in range(THREADS)]
    found = {sock.recvfrom(100) for _ in threads}
    return {"found": [[data.decode(), sender] for data, sender in sorted(found)]}


def crowd():
    """Threads that wait on one socket, of which one has what comes: the others go on waiting."""
    found = []
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def receive():
        try:
            found.append(sock.recvfrom(10)[0].decode())
        except OSError as error:
            found.append(error.errno)

    threads = [begin(receive) for _ in range(THREADS)]
    until(lambda: sum(call_of(each) == RECVFROM for each in threads))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for count in range(1, THREADS + 1):
            other.sendto(b"x", sock.getsockname())
            end = time.monotonic() + LONGEST
            while len(found) < count and time.monotonic() < end:
                time.sleep(0.001)
    return {"found": "".join(map(str, found)) == "x" * THREADS}


def is_free(place):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(place)
        except OSError:
            return False
        return True


print(json.dumps(globals()[sys.argv[1]]()), flush=True)
os._exit(0)
