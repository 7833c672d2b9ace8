"""What a Python program sees of UDP in the target's network: `outgoing_udp.py CASE`, prints JSON."""

import json
import select
import socket
import struct
import sys

IP_PKTINFO = 8  # socket has the name from Python 3.14 on


def made(family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(20)
    return sock


def connected():
    """Names, borders, an empty datagram, the largest one; the server sees the name that is told."""
    found = []
    with made() as sock:
        sock.connect(("10.77.0.1", 7012))
        sock.send(b"")
        found.append(
            [list(sock.getpeername()), sock.recv(100).decode().split()[1] == str(sock.getsockname()[1])]
        )
        sock.connect(("10.77.0.1", 7010))  # the same socket to another server
        for size in (0, 1, 60000):
            sock.send(b"x" * size)
            data, sender = sock.recvfrom(65535)
            found.append([len(data), list(sender)])
        sock.sendto(b"named", ("10.77.0.1", 7010))
        found.append(sock.recv(100).decode())
    return found


def unconnected():
    """Several peers from one socket, both families, answers from whom they were sent to."""
    found = []
    with made() as sock:
        sock.bind(("0.0.0.0", 0))
        for number in range(3):
            for port in (7010, 7011):
                sock.sendto(b"%d" % number, ("10.77.0.1", port))
                found.append([*sock.recvfrom(100)])
    with made(socket.AF_INET6) as sock:
        for host in ("fd77::1", "::ffff:10.77.0.1"):
            sock.sendmsg([b"six ", b"parts"], [], 0, (host, 7010))
            found.append([*sock.recvmsg(100)[::3]])
    return [[data.decode(), *sender[:2]] for data, sender in found]


def errors():
    """A datagram that nobody wanted ends no flow, of a connected socket neither."""
    with made() as sock:
        for _ in range(3):
            sock.sendto(b"lost", ("10.77.0.1", 7099))
        sock.sendto(b"found", ("10.77.0.1", 7010))
        found = [sock.recv(100).decode()]
    with made() as sock:
        found.append(sock.connect_ex(("10.79.0.1", 53)))
        try:
            sock.sendto(b"x", ("10.79.0.1", 53))
        except OSError as error:
            found.append(error.errno)
    return found


def refused():
    """A connected socket hears of a closed port at its next call, each time; one that wants errors too.

    One that is not connected hears nothing. Once somebody listens there the same socket reaches it.
    """
    found = []

    def attempt(sock, call):
        try:
            found.append(call())
        except OSError as error:
            found.append(type(error).__name__)

    for family, host in ((socket.AF_INET, "10.77.0.1"), (socket.AF_INET6, "fd77::1")):
        with made(family) as sock:
            sock.connect((host, 7014))
            for data in (b"lost", b""):
                sock.send(data)
                attempt(sock, lambda: sock.recv(1))
            sock.send(b"lost")
            found.append(select.select([sock], [], [], 20)[0] == [sock])
            attempt(sock, lambda: sock.send(b"lost"))
            with made(family) as other:  # opens the port
                other.sendto(b"open", (host, 7015))
                other.recv(9)
            sock.send(b"found")
            attempt(sock, lambda: sock.recv(100).decode())
    with made() as sock:
        sock.sendto(b"lost", ("10.77.0.1", 7099))
        sock.settimeout(0.3)
        attempt(sock, lambda: sock.recv(1))
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        sock.settimeout(20)
        sock.sendto(b"lost", ("10.77.0.1", 7099))
        attempt(sock, lambda: sock.recv(1))
    return found


def local():
    """A UDP port of the program's own stays here."""
    with made() as server, made() as sock:
        server.bind(("127.0.0.1", 7010))
        sock.sendto(b"mine", ("127.0.0.1", 7010))
        data, sender = server.recvfrom(100)
        server.sendto(b"back", sender)
        return [
            data.decode(),
            *[each.decode() if isinstance(each, bytes) else list(each) for each in sock.recvfrom(9)],
        ]


def source():
    """The address that a message's control data gives as its source counts for what stays here, in both families."""
    found = []
    for mine, chosen, level, info in (
        ("127.0.0.1", "127.0.0.2", socket.IPPROTO_IP, (IP_PKTINFO, "=i4s4x")),
        ("::1", "::1", socket.IPPROTO_IPV6, (socket.IPV6_PKTINFO, "16si")),
    ):
        family = socket.AF_INET6 if ":" in mine else socket.AF_INET
        parts = [socket.inet_pton(family, chosen), 0]
        control = [(level, info[0], struct.pack(info[1], *(parts if ":" in mine else parts[::-1])))]
        with made(family) as server, made(family) as sock:
            server.bind((mine, 7010))
            for place in (server.getsockname(), ("fd77::1" if ":" in mine else "10.77.0.1", 7011)):
                sock.sendmsg([b"x"], control, 0, place)
            found.append([server.recvfrom(100)[1][0], sock.recv(100).decode()])
    return found


print(json.dumps(globals()[sys.argv[1]]()))
