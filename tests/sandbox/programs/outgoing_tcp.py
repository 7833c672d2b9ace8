"""What a Python program sees of TCP in the target's network: `outgoing_tcp.py CASE`, prints JSON."""

import asyncio
import errno
import hashlib
import json
import select
import signal
import socket
import struct
import subprocess
import sys

PATTERN = bytes(range(256)) * 256


def connect(host, port):
    return socket.create_connection((host, port))


def everything(sock):
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def greeting(sock):
    host, port = sock.makefile("rb").readline().decode().split()
    return [host, int(port)]


def names():
    """The server sees the name that getsockname tells, in both families."""
    found = []
    for host in ("127.0.0.1", "10.77.0.1", "::1", "fd77::1"):
        with connect(host, 7001) as sock:
            found.append([sock.getpeername()[:2], list(sock.getsockname()[:2]) == greeting(sock)])
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("::ffff:10.77.0.1", 7001))
        found.append([sock.getpeername()[:2], sock.getsockname()[0]])
    with connect("10.77.0.1", 7001) as sock:
        copy = sock.dup()
        child = subprocess.run(
            [sys.executable, "-c", "import socket; print(socket.socket(fileno=0).getpeername()[0])"],
            stdin=copy, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append([copy.getpeername()[:2], child.stdout.strip()])
    return found


def no_address():
    """Of TCP getpeername's host, of UDP the sender's."""
    found = []
    for family, host in ((2, "0.0.0.0"), (10, "::"), (10, "::ffff:0.0.0.0")):
        with socket.socket(family) as sock, socket.socket(family, socket.SOCK_DGRAM) as other:
            sock.connect((host, 7001))
            other.sendto(b"x", (host, 7010))
            found.append([sock.getpeername()[0], other.recvfrom(100)[1][0]])
    return found


def bound():
    """To loopback of this machine."""
    with socket.create_connection(("10.77.0.1", 7001), source_address=("127.0.0.1", 0)) as sock:
        return list(sock.getsockname()) == greeting(sock)


def code(host, port, timeout=None):
    try:
        with socket.create_connection((host, port), timeout):
            return 0
    except OSError as error:
        return errno.errorcode[error.errno]


def failures():
    """Blocking, then non-blocking, each with the target's own errno."""
    places = (("127.0.0.1", 7099), ("10.78.0.1", 80), ("10.79.0.1", 80), ("fd78::1", 80))
    return [[code(*place) for place in places], [code(*place, 5) for place in places]]


def states():
    """What the kernel refuses is refused as ever."""
    found = []
    with connect("10.77.0.1", 7001) as sock:
        found.append(errno.errorcode[sock.connect_ex(("10.77.0.1", 7001))])
    with socket.socket() as sock:
        found.append(errno.errorcode[sock.connect_ex(("10.77.0.1", 7099))])
        found.append(sock.connect_ex(("10.77.0.1", 7001)))  # the same socket again
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.connect(("10.77.0.1", 7001))
        found.append(sock.getpeername()[0])
    with socket.socket() as sock:
        try:
            sock.getpeername()
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    return found


def polled():
    """As programs do that know no asyncio: EINPROGRESS, epoll, SO_ERROR, connect again."""
    found = []
    for port in (7001, 7099):
        with socket.socket() as sock:
            sock.setblocking(False)
            found.append(errno.errorcode[sock.connect_ex(("10.77.0.1", port))])
            poll = select.epoll()
            poll.register(sock, select.EPOLLOUT)
            [(_, events)] = poll.poll(20)
            found.append(bool(events & select.EPOLLERR))
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if port == 7001:
                found += [sock.connect_ex(("10.77.0.1", port)), sock.connect_ex(("10.77.0.1", port))]
                found.append(sock.getpeername()[0])
    where = ("10.77.0.1", 7099)
    for again in (False, True):  # without a poll
        with socket.socket() as sock:
            sock.setblocking(False)
            found.append(sock.connect_ex(where))
            if again:
                found.append(sock.connect_ex(where))
            else:
                found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    return found


def fast_open():
    """Data with the SYN, by sendto, blocking and not, and by connect; to a closed port; more than fits at once."""
    found, flag, where = [], socket.MSG_FASTOPEN, ("10.77.0.1", 7001)
    with socket.socket() as sock:
        found.append(sock.sendto(b"data", flag, where))
        found.append([sock.getpeername()[0], list(sock.getsockname()[:2]) == greeting(sock)])
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            sock.sendmsg([b"da", b"ta"], [], flag, where)
        except BlockingIOError as error:
            found.append(errno.errorcode[error.errno])
        select.select([], [sock], [], 20)
        sock.setblocking(True)
        sock.sendall(b"data")
        sock.shutdown(socket.SHUT_WR)
        found.append(everything(sock).decode().split("\n")[1])
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        sock.connect(where)
        sock.sendall(b"data")
        sock.shutdown(socket.SHUT_WR)
        found.append(everything(sock).decode().split("\n")[1])
    with socket.socket() as sock:
        try:
            sock.sendto(b"data", flag, ("10.77.0.1", 7099))
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    with socket.socket() as sock:
        sent = sock.sendto(PATTERN * 16, flag, ("10.77.0.1", 7003))
        sock.sendall((PATTERN * 16)[sent:])
        sock.shutdown(socket.SHUT_WR)
        found.append(everything(sock).decode() == hashlib.sha256(PATTERN * 16).hexdigest())
    return found


def zones():
    """A link-local address: its device is the target's of that name. None of that name: as the kernel says."""
    found = []
    with connect("fe80::77%lo", 7001) as sock:
        found.append([sock.getpeername(), sock.getsockname(), greeting(sock)[1] == sock.getsockname()[1]])
    other = next((name for _, name in socket.if_nameindex() if name != "lo"), None)
    found.append(code(f"fe80::77%{other}", 7001) if other else "ENODEV")
    return found


def devices():
    """A socket that is bound to a device of this machine stays on it; any other binding goes to the target."""
    found = []
    for _, name in socket.if_nameindex():
        with open(f"/sys/class/net/{name}/operstate") as file:
            if name != "lo" and file.read() != "down\n":
                continue  # what leaves by it would leave the machine
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
            sock.settimeout(1)
            found.append([name == "lo", sock.connect_ex(("127.0.0.77", 7001)) == 0])
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        sock.connect(("10.77.0.1", 7001))
        found.append(greeting(sock)[0])
    return found


def half_close():
    with connect("10.77.0.1", 7003) as sock:
        sock.sendall(b"to the end")
        sock.shutdown(socket.SHUT_WR)
        return everything(sock).decode() == hashlib.sha256(b"to the end").hexdigest()


def resets():
    found = []
    with connect("10.77.0.1", 7004) as sock:
        sock.sendall(b"now\n")
        try:
            sock.recv(1)
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    sock = connect("10.77.0.1", 7005)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    with connect("10.77.0.1", 7006) as sock:
        found.append(everything(sock).decode())
    return found


def listeners():
    """A port that a process of the program has stays here, whoever of them, whichever number."""
    found = []
    with (
        socket.create_server(("127.0.0.1", 7001)) as ours,
        socket.create_server(("127.0.0.1", 0)) as any_port,
    ):
        for server in (ours, any_port):
            with connect("127.0.0.1", server.getsockname()[1]) as sock:
                found.append(sock.getsockname() == server.accept()[1])
    script = "import socket,sys; s=socket.create_server(('127.0.0.1',7002)); print(); c=s.accept()[0]; c.send(b'child')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        with connect("127.0.0.1", 7002) as sock:
            found.append(everything(sock).decode())
    with connect("127.0.0.1", 7001) as sock:  # closed here: the target's again
        found.append(greeting(sock)[0])
    return found


async def one(number):
    reader, writer = await asyncio.open_connection("10.77.0.1", 7001)
    writer.write(b"%d" % number)
    writer.write_eof()
    answer = (await reader.read()).split(b"\n")[1]
    writer.close()
    return answer == b"%d" % number


def many():
    """200 at once from one event loop, and they all live at the same time."""

    async def run():
        return sum(await asyncio.gather(*(one(number) for number in range(200))))

    return asyncio.run(run())


def timed_out():
    """connect_timeout is 1 s, nonblocking_wait 0.1 s: a blocking connect is told, one that is polled for is refused."""
    found = [code("10.80.0.1", 80)]
    with socket.socket() as sock:
        sock.setblocking(False)
        found += [errno.errorcode[sock.connect_ex(("10.80.0.1", 80))] for _ in range(2)]
        try:
            sock.getpeername()
        except OSError as error:
            found.append(errno.errorcode[error.errno])
        select.select([], [sock], [], 20)
        found.append(errno.errorcode[sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
    return found


def own_limit():
    """A time-out of the program's own, shorter than the target's."""
    try:
        socket.create_connection(("10.80.0.1", 80), 0.5)
    except TimeoutError as error:
        return str(error)


def interrupted():
    """A signal ends a blocking connect that nobody answers."""

    def alarm(number, frame):
        raise TimeoutError("the alarm")

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with socket.socket() as sock:
            sock.connect(("10.80.0.1", 80))
    except TimeoutError as error:
        return str(error)


def unix_sockets():
    found = []
    for kind, name in ((1, "/app/stream.sock"), (1, "\0side-car"), (5, "/app/packets.sock")):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.settimeout(20)
            sock.connect(name)
            peer = sock.getpeername()
            for size in (3, 70000):
                sock.send(b"x" * size)
                left, parts = size, []
                while left:
                    parts.append(len(sock.recv(1 << 17)))
                    left -= parts[-1]
                found.append(
                    [peer if isinstance(peer, str) else peer.decode(), sum(parts), kind == 1 or len(parts)]
                )
            sock.shutdown(socket.SHUT_WR)
            found.append(sock.recv(1).decode())
    for name in ("/app/none.sock", "/app/dead.sock", "/tmp/not-there.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            found.append(errno.errorcode[sock.connect_ex(name)])
    return found


def everywhere():
    """Whether each destination is the target's; nothing listens there on this machine. Loopback
    only: what a filter keeps here must not leave this machine."""
    return [code(*place, 5) == 0 for place in (("127.0.0.1", 7001), ("127.0.0.77", 7001), ("::1", 7080))]


print(json.dumps(globals()[sys.argv[1]]()))
