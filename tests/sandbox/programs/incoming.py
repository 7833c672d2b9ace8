"""Programs that listen: `incoming.py CASE PORT`. Each client is told what the program sees of it."""

import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
import threading

CASE, PORT = sys.argv[1], int(sys.argv[2])
EVERY = ("0.0.0.0", PORT)


def words(connection, accepted):
    """As accept, getpeername and getsockname tell it."""
    names = (accepted, connection.getpeername(), connection.getsockname())
    return " ".join(f"{name[0]}:{name[1]}" for name in names)


def greet(connection, accepted, more=""):
    with connection:
        connection.recv(4096)
        connection.sendall((words(connection, accepted) + more).encode())


def listening(address=EVERY, family=socket.AF_INET, **options):
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for name, value in options.items():
        level = socket.IPPROTO_IPV6 if name.startswith("IPV6") else socket.SOL_SOCKET
        made.setsockopt(level, getattr(socket, name), value)
    made.bind(address)
    made.listen()
    return made


def one():
    server = listening()
    print(*server.getsockname())
    greet(*server.accept())


def dual():
    """Two clients of a socket for both IP versions."""
    server = listening(("::", PORT), socket.AF_INET6, IPV6_V6ONLY=0)
    print(*server.getsockname())
    greet(*server.accept())
    greet(*server.accept())


def six():
    greet(*listening(("::", PORT), socket.AF_INET6, IPV6_V6ONLY=1).accept())


def epoll():
    """Not one call waits, but for epoll's own."""
    server, none = listening(), 0
    server.setblocking(False)
    poll = select.epoll()
    poll.register(server, select.EPOLLIN)
    for _ in range(3):
        poll.poll()
        connection, accepted = server.accept()
        assert os.get_blocking(connection.fileno()), "a listener's mode is its own"
        try:
            server.accept()  # the next client comes when this one has been answered
        except BlockingIOError:
            none += 1
        greet(connection, accepted, f" {none}")


def threads():
    """Four in accept at once; each serves four clients."""
    server = listening()

    def serve(number):
        for _ in range(4):
            greet(*server.accept(), f" {number}")

    all_of_them = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for each in all_of_them:
        each.start()
    for each in all_of_them:
        each.join()


def many():
    """Two hundred wait in accept; one client each."""
    server = listening()
    all_of_them = [threading.Thread(target=lambda: greet(*server.accept())) for _ in range(200)]
    for each in all_of_them:
        each.start()
    for each in all_of_them:
        each.join()


def mixed():
    """Half of those that accept do so without an address, which the kernel alone does."""
    server, libc = listening(), ctypes.CDLL(None, use_errno=True)

    def bare():
        for _ in range(25):
            connection = socket.socket(fileno=libc.accept(server.fileno(), None, None))
            greet(connection, connection.getpeername())

    def named():
        for _ in range(25):
            greet(*server.accept())

    all_of_them = [threading.Thread(target=work) for work in (bare, named) * 4]
    for each in all_of_them:
        each.start()
    for each in all_of_them:
        each.join()
    print(server.gettimeout(), os.get_blocking(server.fileno()))


def prefork():
    """One listener, three processes in accept, each with one client."""
    server = listening()
    for _ in range(3):
        if os.fork() == 0:
            greet(*server.accept())
            os._exit(0)
    print(sorted(os.wait()[1] for _ in range(3)))


def reuseport():
    """A socket for each of three processes, one after the other; what they show is the same."""
    for _ in range(3):
        read, write = os.pipe()
        if os.fork() == 0:
            server = listening(SO_REUSEPORT=1)
            os.write(write, f"{server.getsockname()[1]}".encode())
            while True:
                greet(*server.accept())
        print(os.read(read, 10).decode() == str(PORT), flush=True)
    signal.pause()


def interrupted():
    """A handler that raises, in a blocking accept."""
    server = listening()
    try:
        print(server.accept())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    greet(*server.accept())


def handled():
    """A handler that asks for a restart: accept goes on."""
    os.set_blocking(1, False)
    signal.set_wakeup_fd(1)  # gets the number of the signal, which is that of a line feed
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, False)
    greet(*listening().accept())


def timeout():
    server = listening()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    libc, name, size = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(28), ctypes.c_int(28)
    made = libc.accept(server.fileno(), name, ctypes.byref(size))
    print(made, errno.errorcode[ctypes.get_errno()], flush=True)
    greet(*server.accept())


def full():
    """No descriptor left: the connection waits until there is one."""
    import resource

    server = listening()
    most = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 8, most + 8))
    kept = []
    try:
        while True:
            kept.append(os.dup(0))
    except OSError:
        pass
    select.select([server], [], [])
    try:
        server.accept()
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
    os.close(kept.pop())
    greet(*server.accept())


def again():
    """A second listen, of a further backlog; a copy, a child and another program know the same name."""
    server = listening()
    server.listen(7)
    copy = socket.socket(fileno=os.dup(server.fileno()))
    print(*copy.getsockname(), flush=True)
    if os.fork() == 0:
        os.set_inheritable(server.fileno(), True)
        script = f"import socket; print(*socket.socket(fileno={server.fileno()}).getsockname())"
        os.execv(sys.executable, [sys.executable, "-c", script])
    os.wait()
    copy.close()
    server.close()
    server = listening()
    print(*server.getsockname())


def refused():
    made = socket.socket()
    for step in (lambda: made.bind(EVERY), made.listen, made.listen):
        try:
            print(step())
        except OSError as error:
            print(errno.errorcode[error.errno])


def dies():
    """One after the other is killed while it waits in accept; each has the port of the one before."""

    def state(pid):
        with open(f"/proc/{pid}/syscall") as file:
            return file.read().split()[0]

    for _ in range(10):
        server = listening()
        child = os.fork()
        if child == 0:
            server.accept()
        server.close()
        while state(child) != sys.argv[3]:
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print("all")


def untouched():
    """What is nobody's to decide; and what the kernel refuses by itself."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as made:
            made.bind(("127.0.0.1", 0 if kind == socket.SOCK_STREAM else PORT))
            print(made.getsockname()[1] > 0)
            if kind == socket.SOCK_STREAM:
                made.listen()
                try:
                    made.bind(EVERY)
                except OSError as error:
                    print(errno.errorcode[error.errno])
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("\0desk")
        made.listen()
        print(made.getsockname())


globals()[CASE]()
