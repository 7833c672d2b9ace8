"""outlives.py HOST FILE: has pymirror killed while connections are open; what they then end with goes to FILE.

Who sees that end has left the program's tree and has nothing of its environment, or the guard would kill it too.
"""

import os
import signal
import socket
import subprocess
import sys
import time


def main(host, file):
    read, stalled = (socket.create_connection((host, port)) for port in (7001, 7005))
    read.recv(100)
    ready, told = os.pipe()
    if os.fork() == 0:
        kept = (read.fileno(), stalled.fileno(), told)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        words = [sys.executable, __file__, "look", str(read.fileno()), str(told), file]
        subprocess.Popen(words, env={}, pass_fds=kept, **quiet)
        os._exit(0)
    os.wait()
    os.read(ready, 1)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def look(number, told, file):
    sock = socket.socket(fileno=int(number))
    with open(file, "w") as found:
        os.write(int(told), b"1")
        try:
            found.write(f"end after {sock.recv(100)!r}")
        except OSError as error:
            found.write(type(error).__name__)


if __name__ == "__main__":
    look(*sys.argv[2:]) if sys.argv[1] == "look" else main(*sys.argv[1:])
