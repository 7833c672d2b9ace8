"""The network probe (see network.c) in Python."""

import http.client
import socket
import ssl
import sys

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"
QUESTION = b"GET / HTTP/1.0\r\n\r\n"


def answer(sock):
    sock.sendall(QUESTION)
    return sock.makefile().read().splitlines()[-1]


def connected(host, port):
    with socket.create_connection((host, port)) as sock:
        own, peer = sock.getsockname()[0], sock.getpeername()[0]
        return f"{answer(sock)} from {own} to {peer}"


def tcp(host, port):
    return [connected(host, port)]


def all(host, port):
    return [connected(found[4][0], port) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def udp(host, port):
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(QUESTION, address)
        return [sock.recvfrom(512)[0].decode()]


def unix(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        return [answer(sock)]


def https(url):
    host, path = url.removeprefix("https://").split("/", 1)
    trusting = ssl.create_default_context(cafile=ACCOUNT + "ca.crt")
    with open(ACCOUNT + "token") as file:
        headers = {"Authorization": f"Bearer {file.read()}"}
    connection = http.client.HTTPSConnection(host, context=trusting)
    connection.request("GET", f"/{path}", headers=headers)
    return ["".join(connection.getresponse().read().decode().split())]


for word in sys.argv[1:]:
    kind, *place = word.split(",")
    try:
        lines = globals()[kind](*place)
    except socket.gaierror as error:
        lines = ["unknown" if error.errno == socket.EAI_NONAME else str(error)]
    except ConnectionRefusedError:
        lines = ["refused"]
    for line in lines:
        print(f"{kind} {place[0]}: {line}")
