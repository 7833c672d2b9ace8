"""The kernel's filter of copied packets, tried with packets that no program sends: written to a TUN device."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Iterable, Iterator

import pytest

from pymirror.agent.network import THERE, Network
from pymirror.features.network.incoming.bpf import MOST_PORTS
from pymirror.features.network.incoming.capture import Capture
from pymirror.features.network.incoming.segments import RST, parse
from pymirror.runtimes.process.sandbox import Sandbox
from tests.features.network.tcp_words import APPLICATION, PORT, Talk, ipv4, ipv6, tcp
from tests.sandbox.pod_network import ran

pytestmark = pytest.mark.sandbox

TALK = Talk()
DATA = TALK.client(0, b"data")
LAST = TALK.client(9, b"the last one")
HOP_BY_HOP = struct.pack("!BBHI", 6, 0, 0x0104, 0)


def tun() -> int:
    """The device `tun0` of this namespace, without a link header."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
    return device


async def captured(*packets: bytes, ports: Iterable[int] = (PORT,)) -> list[tuple[bytes, int]]:
    """What is handed over of packets that come to a pod."""
    async with Sandbox.start() as pod:
        network = Network(pod.pid, THERE)
        device = await network.run(tun)
        try:
            command = f"nsenter -t {pod.pid} -n ip link set tun0 up".split()
            assert (await ran(*command)).status == 0
            capture = await network.run(Capture)
            os.write(device, ipv4(tcp(LAST)))  # nobody wants this port yet
            capture.only(ports)
            for packet in (*packets, ipv4(tcp(LAST))):
                os.write(device, packet)
            found = list(until_last(capture))
            capture.close()
            return found
        finally:
            os.close(device)
            network.close()


def until_last(capture: Capture) -> Iterator[tuple[bytes, int]]:
    while select.select([capture], [], [], 20)[0]:
        for packet, length in capture.block():
            if parse(packet, length) == LAST:
                return
            yield packet, length
    raise AssertionError("the last packet did not come")


def fragment(offset: int, more: int) -> bytes:
    return struct.pack("!BBHI", 6, 0, offset << 3 | more, 7)


WANTED = [
    ipv4(tcp(DATA)),
    ipv4(tcp(DATA), options=bytes(12)),
    ipv4(tcp(TALK.syn())),
    ipv4(tcp(TALK.fin(0))),
    ipv4(tcp(TALK.client(0, flags=RST))),
    ipv4(tcp(DATA, b"\1\1\x08\x0a" + bytes(8))),
    ipv4(tcp(DATA._replace(data=bytes(1400), size=1400))),
    ipv4(tcp(DATA), fragment=0x2000),  # the first of several: counted
    ipv6(tcp(DATA)),
    ipv6(tcp(TALK.syn())),
    ipv6(HOP_BY_HOP + tcp(DATA), 0),
    ipv6(struct.pack("!BB", 60, 2) + bytes(22) + HOP_BY_HOP + tcp(DATA), 43),
    ipv6(fragment(0, 1) + tcp(DATA), 44),
]
OTHERS = [
    ipv4(tcp(TALK.client(4))),  # a bare acknowledgement
    ipv6(tcp(TALK.client(4))),
    ipv6(HOP_BY_HOP + tcp(TALK.client(4)), 0),
    ipv4(tcp(DATA._replace(target_port=PORT + 1))),
    ipv4(tcp(DATA._replace(source_port=PORT, target_port=PORT + 1))),  # an answer of somebody else's
    ipv4(tcp(DATA), protocol=17),
    ipv4(tcp(DATA), fragment=0x0004),
    ipv6(fragment(1, 1) + tcp(DATA), 44),
    ipv6(tcp(DATA), 17),
    ipv6(tcp(DATA), 51),
    ipv6(bytes(8) * 4 + tcp(DATA), 0),
    ipv4(tcp(DATA))[:21],
    ipv6(tcp(DATA))[:41],
]


async def test_what_is_handed_over_is_whole_and_nothing_else_is() -> None:
    mixed = [packet for pair in zip(WANTED, OTHERS, strict=True) for packet in pair]
    assert await captured(*mixed) == [(packet, len(packet)) for packet in WANTED]


async def test_as_many_ports_as_the_kernel_takes() -> None:
    ports = set(range(1, MOST_PORTS)) | {PORT}
    packets = [ipv4(tcp(DATA._replace(target_port=port))) for port in (1, MOST_PORTS - 1, MOST_PORTS, PORT)]
    assert [packet for packet, _ in await captured(*packets, ports=ports)] == [
        packets[0],
        packets[1],
        packets[3],
    ]


async def test_which_addresses_are_the_pods_own() -> None:
    async with Sandbox.start() as pod:
        network = Network(pod.pid, THERE)
        capture = await network.run(Capture)
        here, known = capture.addresses.here, bytes(15) + b"\1"
        assert [here(each) for each in (b"\x7f\0\0\1", known, APPLICATION, b"\x20" + bytes(15))] == [
            True,
            True,
            False,
            False,
        ]
        command = f"nsenter -t {pod.pid} -n ip addr add 10.0.0.2/32 dev lo".split()
        assert (await ran(*command)).status == 0
        capture.addresses.look_again()
        assert here(APPLICATION)
        capture.close()
        network.close()
