"""A name server for tests: UDP and TCP, a small zone, and names that do something.

As a program, `names_server.py PID ADDRESS…`: port 53 of these addresses in the network namespace of PID, and
a greeting at TCP port 7001 (with the word `here`, its answers for v4only and only.here are 192.168.0.1); says "up" and ends with its stdin. `slow.…` is answered when `release.…` has been asked for, `count-NAME`
tells (TXT) how often NAME was asked for, `who.…` who asks (TXT: address and transport), `broken.…` is
SERVFAIL, `dead.…` hears nothing. Over UDP what does not fit is truncated.
"""

import asyncio
import collections
import subprocess
import sys

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

HERE = "192.168.0.1"
ORIGIN = "demo.svc.cluster.local"
SOA = f"{ORIGIN}. 30 IN SOA ns.{ORIGIN}. root.{ORIGIN}. 1 7200 1800 86400 5"
ZONE = f"""
api.{ORIGIN}. 30 IN A 10.77.0.1
api.{ORIGIN}. 30 IN AAAA fd77::1
dual.{ORIGIN}. 30 IN A 10.77.0.1
dual.{ORIGIN}. 30 IN AAAA fd78::1
alias.{ORIGIN}. 30 IN CNAME api.{ORIGIN}.
v4only.{ORIGIN}. 30 IN A 10.77.0.2
under_score.{ORIGIN}. 30 IN A 10.77.0.3
quick.{ORIGIN}. 30 IN A 10.77.0.4
slow.{ORIGIN}. 30 IN A 10.77.0.5
short-lived.{ORIGIN}. 0 IN A 10.77.0.6
mail.{ORIGIN}. 30 IN MX 10 api.{ORIGIN}.
_http._tcp.api.{ORIGIN}. 30 IN SRV 0 5 7080 api.{ORIGIN}.
web.{ORIGIN}. 30 IN HTTPS 1 . alpn=h2 ipv4hint=10.77.0.7 ipv6hint=fd77::7
odd.{ORIGIN}. 30 IN TYPE65400 \\# 3 010203
www.example.com. 30 IN A 10.77.0.8
only.here. 30 IN A 10.77.0.9
1.0.77.10.in-addr.arpa. 30 IN PTR api.{ORIGIN}.
"""
BIG = " ".join(f'"{number:03d}{"x" * 190}"' for number in range(30))


def records():
    found = collections.defaultdict(list)
    lines = [*ZONE.strip().splitlines(), f"big.{ORIGIN}. 30 IN TXT {BIG}"]
    for line in lines:
        name, ttl, group, kind, data = line.split(" ", 4)
        found[dns.name.from_text(name)].append(dns.rrset.from_text(name, int(ttl), group, kind, data))
    return found


class Server:
    """extra: (name, kind) → data of one more record, to be changed while it runs."""

    def __init__(self):
        self.zone = records()
        self.asked = collections.Counter()
        self.released, self.waiting = asyncio.Event(), asyncio.Event()
        self.extra = {}
        self.tasks = set()
        self.closers = []

    async def listen(self, host, port=0, tcp=True):
        """The port, the same for both; a free one for 0."""
        loop = asyncio.get_running_loop()
        while True:
            transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(self), (host, port))
            chosen = transport.get_extra_info("sockname")[1]
            try:
                if tcp:
                    server = await asyncio.start_server(self.connection, host, chosen)
                    self.closers.append(server.close)
            except OSError:
                transport.close()
                if port:
                    raise
                continue  # somebody has this number over TCP
            self.closers.append(transport.close)
            return chosen

    async def close(self):
        for close in self.closers:
            close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def spawn(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connection(self, reader, writer):
        self.tasks.add(task := asyncio.current_task())
        task.add_done_callback(self.tasks.discard)
        try:
            while size := await reader.read(2):
                query = await reader.readexactly(int.from_bytes(size, "big"))
                answer = await self.answer(query, writer.get_extra_info("peername")[0], "tcp")
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        finally:
            writer.close()

    async def answer(self, wire, peer, transport):
        query = dns.message.from_wire(wire)
        question = query.question[0]
        first = question.name.labels[0].decode().lower()
        self.asked[question.name.to_text(True).lower()] += 1
        if first == "dead":
            return None
        if first == "slow":
            self.waiting.set()
            await self.released.wait()
            self.waiting.clear()
            self.released.clear()
        if first == "release":
            await self.waiting.wait()
            self.released.set()
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        if query.edns >= 0 and query.options:
            reply.use_edns(0, payload=1232, options=[dns.edns.GenericOption(dns.edns.NSID, b"server")])
        self.fill(reply, question, first, peer, transport)
        whole = reply.to_wire(max_size=65535)
        room = max(512, query.payload if query.edns >= 0 else 512)
        if transport == "tcp" or len(whole) <= room:
            return whole
        reply.answer.clear()
        reply.flags |= dns.flags.TC
        return reply.to_wire()

    def fill(self, reply, question, first, peer, transport):
        kind = dns.rdatatype.to_text(question.rdtype)
        text = question.name.to_text()
        if first == "broken":
            reply.set_rcode(dns.rcode.SERVFAIL)
            return
        special = {"who": f'"{peer}" "{transport}"', "release": '"released"'}.get(first)
        if first.startswith("count-"):
            special = f'"{self.asked[text[6:].rstrip(".").lower()]}"'
        data = special if special and kind == "TXT" else self.extra.get((text.rstrip("."), kind))
        if data:
            reply.answer.append(dns.rrset.from_text(text, 0 if special else 30, "IN", kind, data))
            return
        self.follow(reply, question.name, question.rdtype)

    def follow(self, reply, name, kind):
        here = self.zone.get(dns.name.from_text(name.to_text().lower()))
        for rrset in here or ():
            if rrset.rdtype in (kind, dns.rdatatype.CNAME):
                made = rrset.copy()
                made.name = name
                reply.answer.append(made)
                if rrset.rdtype == dns.rdatatype.CNAME:
                    self.follow(reply, rrset[0].target, kind)
                return
        if here is None and not any(name.is_superdomain(known) for known in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(
            dns.rrset.from_text(*SOA.split(" ", 4)[:1], 30, "IN", "SOA", SOA.split(" ", 4)[4])
        )


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.server.spawn(self.reply(data, addr))

    async def reply(self, data, addr):
        answer = await self.server.answer(data, addr[0], "udp")
        if answer is not None:
            self.transport.sendto(answer, addr)


def go_there(pid):
    from servers import enter

    enter(int(pid))
    subprocess.run("ip addr add 10.77.0.9/32 dev lo".split(), check=True)  # a server no resolv.conf names
    subprocess.run(f"ip addr add {HERE}/32 dev lo".split(), check=True)


async def greet(reader, writer):
    host = writer.get_extra_info("sockname")[0]
    writer.write(b"here\n" if host == HERE else b"hello\n")
    writer.close()


async def main(pid, hosts):
    go_there(pid)
    server = Server()
    if "here" in hosts:
        from servers import one_by_one

        hosts.remove("here")
        server.extra = {(name, "A"): HERE for name in (f"v4only.{ORIGIN}", "only.here")}
        await asyncio.start_server(greet, HERE, 7001)
        server.spawn(one_by_one(HERE, 7016))
    for host in hosts:
        await server.listen(host, 53)
        await asyncio.start_server(greet, host, 7001)
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
