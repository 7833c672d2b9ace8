"""Servers in a process's network namespace: `servers.py PID`; says "up" and ends with its stdin.

On 127.0.0.1, 127.0.0.77, ::1, and on 10.77.0.1, fd77::1 and fe80::77, which only that namespace has, as it has the
routes 10.78.0.0/16, which is unreachable, and 10.80.0.0/16, where nobody answers. TCP ports: 7001 tells the client's address and then repeats what it reads, to its end; 7002
reads a number and sends that many bytes; 7003 reads to the end and answers with the SHA-256; 7004 resets;
7005 reads until the reset and tells it at 7006, which waits for that; 7007 never reads; 7009 reads and answers as 7003 does once 7018 was connected to; 7008 reads to the end and prints the number of bytes; 7080 HTTP.
7016 on 10.77.0.1 takes one connection, as 7001, for each datagram to UDP port 7016: before that nobody answers.
Unix sockets: /app/stream.sock and the abstract side-car repeat, /app/packets.sock repeats packets, nobody listens
on /app/dead.sock. UDP port 7010 and 7011: answer with "PORT " and the datagram; 7012: with the sender's address;
7013: prints the number of bytes; 7015: opens 7014, which answers as 7010 does, and then answers.
"""

import asyncio
import ctypes
import hashlib
import itertools
import os
import random
import socket
import struct
import subprocess
import sys

HERE = ("127.0.0.1", "127.0.0.77", "10.77.0.1", "::1", "fd77::1", "fe80::77%lo")
RESET = asyncio.Event()
GO, NEVER = asyncio.Event(), asyncio.Event()  # a task that only a dead event knew of would be collected
BLOCK = memoryview(random.Random(7).randbytes(1048573))
"""A prime number of bytes: no two pieces of what is made of it are the same in the same place."""


def enter(pid):
    with open(f"/proc/{pid}/ns/net") as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) == 0
    commands = ("addr add 10.77.0.1/32 dev lo", "-6 addr add fd77::1/128 dev lo nodad")
    commands += ("-6 addr add fe80::77/64 dev lo nodad",)
    routes = ("route add unreachable 10.78.0.0/16", "route add 10.80.0.0/16 dev lo")
    for command in (*commands, *routes):
        subprocess.run(["ip", *command.split()], check=True)


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def repeat(reader, writer):
    host, port = writer.get_extra_info("peername")[:2]
    writer.write(f"{host} {port}\n".encode())
    await echo(reader, writer)


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def pieces(size):
    """The `size` bytes that everybody who is asked for that many sends."""
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)


async def source(reader, writer):
    for piece in pieces(int(await reader.readline())):
        writer.write(piece)
        await writer.drain()


async def digest(reader, writer):
    found = hashlib.sha256()
    while data := await reader.read(1 << 20):
        found.update(data)
    writer.write(found.hexdigest().encode())


async def digest_later(reader, writer):
    writer.transport.pause_reading()
    await GO.wait()
    writer.transport.resume_reading()
    await digest(reader, writer)


async def go(reader, writer):
    GO.set()


async def resets(reader, writer):
    await reader.readline()
    reset(writer)


async def awaits_reset(reader, writer):
    try:
        while await reader.read(1 << 16):
            pass
    except ConnectionResetError:
        RESET.set()


async def tells_reset(reader, writer):
    await RESET.wait()
    writer.write(b"reset")


async def never_reads(reader, writer):
    writer.transport.pause_reading()
    await NEVER.wait()


async def counts(reader, writer):
    print(len(await reader.read()), flush=True)


async def http(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nfrom the pod\n")


async def one_by_one(host, port):
    """The queue of a listener is full until somebody says go, so whoever connects is heard a second later."""
    loop = asyncio.get_running_loop()
    listener, go = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    for sock in (listener, go):
        sock.setblocking(False)
        sock.bind((host, port))
    listener.listen(0)
    while True:
        filler = socket.create_connection((host, port))
        await loop.sock_recv(go, 9)
        (await loop.sock_accept(listener))[0].close()
        sock, _ = await loop.sock_accept(listener)
        await handler(repeat)(*await asyncio.open_connection(sock=sock))
        filler.close()


async def repeat_packets(listener):
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        while data := await loop.sock_recv(sock, 1 << 17):
            await loop.sock_sendall(sock, data)
        sock.close()


async def unix(pid):
    """The paths are in the target's root; the abstract name belongs to the network namespace."""
    app = f"/proc/{pid}/root/app"
    await asyncio.start_unix_server(handler(echo), f"{app}/stream.sock")
    await asyncio.start_unix_server(handler(echo), "\0side-car")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    listener.bind(f"{app}/packets.sock")
    listener.listen()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{app}/dead.sock")
    return asyncio.ensure_future(repeat_packets(listener))


def handler(serve):
    async def run(reader, writer):
        try:
            await serve(reader, writer)
        except ConnectionError:  # the program has ended
            pass
        finally:
            writer.close()

    return run


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, port):
        self.port = port

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        told = f"{addr[0]} {addr[1]}" if self.port == 7012 else f"{self.port} "
        if self.port == 7013:
            print(len(data), flush=True)
        elif self.port == 7015:
            self.opening = asyncio.ensure_future(self.open(told, addr))
        else:
            self.transport.sendto(told.encode() + (b"" if self.port == 7012 else data), addr)

    async def open(self, told, addr):
        host = self.transport.get_extra_info("sockname")[0]
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(7014), (host, 7014))
        self.transport.sendto(told.encode(), addr)


async def main():
    enter(int(sys.argv[1]))
    loop = asyncio.get_running_loop()
    servers = {
        7001: repeat, 7002: source, 7003: digest, 7004: resets, 7005: awaits_reset, 7006: tells_reset,
        7007: never_reads, 7008: counts, 7009: digest_later, 7018: go, 7080: http,
    }  # fmt: skip
    for host, (port, serve) in itertools.product(HERE, servers.items()):
        await asyncio.start_server(handler(serve), host, port, backlog=1024)
    for host, port in itertools.product(HERE, (7010, 7011, 7012, 7013, 7015)):
        await loop.create_datagram_endpoint(lambda port=port: Datagrams(port), (host, port))
    serving = asyncio.gather(await unix(sys.argv[1]), one_by_one("10.77.0.1", 7016))
    print("up", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    serving.cancel()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
