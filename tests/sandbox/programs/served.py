"""Programs that serve clients of the target: `served.py CASE PORT`. What they see of them is their answer."""

import errno
import os
import signal
import socket
import sys

CASE, PORT = sys.argv[1], int(sys.argv[2])


def listening(host="0.0.0.0"):
    return socket.create_server((host, PORT), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def greet(server):
    connection, peer = server.accept()
    with connection:
        asked = connection.recv(4096)
        names = (peer, connection.getpeername(), connection.getsockname())
        connection.sendall(asked + " ".join(f"{name[0]}:{name[1]}" for name in names).encode())


def one():
    with listening() as server:
        print(*server.getsockname(), flush=True)
        greet(server)


def itself():
    """It finds its own server under the port it asked for, with IPv6 beside IPv4."""
    for host, to in (("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
        with listening(host) as server, socket.create_connection((to, PORT)) as near:
            far, _ = server.accept()
            with far:
                far.sendall(b"self")
                print(near.recv(10).decode(), near.getpeername()[1] == PORT, flush=True)


def twice():
    """A second start of the same server fails."""
    with listening() as server:
        if os.fork() == 0:
            try:
                listening()
                code = 0
            except OSError as error:
                code = error.errno
            print(errno.errorcode.get(code, "OK"), flush=True)
            os._exit(0)
        os.wait()
        greet(server)


def again():
    """Closed, and at once there again; both have their clients."""
    for _ in range(2):
        with listening() as server:
            greet(server)


def handed():
    """A worker has the listener; who made it does not, and lives on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with listening() as server:
        worker = os.fork()
        if worker == 0:
            greet(server)
            os._exit(0)
    os.waitpid(worker, 0)
    signal.pause()


def refused():
    try:
        listening()
    except OSError as error:
        print(errno.errorcode[error.errno])


globals()[CASE]()
