"""The probe (see probe.c) in Python."""

import os
import socket
import stat
import sys


def look(path):
    try:
        st = os.lstat(path)
    except OSError as error:
        return f"{path} errno {error.errno}"
    line = f"{path} {st.st_mode:o} {st.st_uid} {st.st_gid} {st.st_size}"
    line += f" {st.st_mtime_ns} {st.st_ino} {st.st_nlink}"
    mode = st.st_mode
    if stat.S_ISLNK(mode):
        line += f" -> {os.readlink(path)}"
        try:
            mode = os.stat(path).st_mode
        except OSError:
            mode = 0
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            line += f" = {file.read().hex()}"
    if stat.S_ISDIR(mode):
        line += f" : {','.join(sorted(os.listdir(path)))}"
    return line


for word in sys.argv[1:]:
    if word.startswith("$"):
        value = os.environ.get(word[1:])
        print(f"env {word[1:]} unset" if value is None else f"env {word[1:]}={value}")
    elif word == "@host":
        print("host", socket.gethostname())
    else:
        print(look(word))
