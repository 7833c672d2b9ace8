"""An HTTP/1.1 application, or the local program that gets a copy: `mirror_app.py PORT`, on every address.

It says "up", then a line for each request: client's address and port, method, path and digest of the body; a
connection that ends otherwise than between requests gives a line too. It ends with its stdin.
"""

import asyncio
import hashlib
import sys


async def serve(reader, writer):
    client = "{} {}".format(*writer.get_extra_info("peername")[:2])
    line = b""
    try:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            fields = {}
            while field := (await reader.readline()).decode().strip():
                name, _, value = field.partition(":")
                fields[name.lower()] = value.strip()
            if path == "/half":
                print(client, method, path, "begins", flush=True)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            print(client, method, path, hashlib.sha256(body).hexdigest()[:8], flush=True)
            line = b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        if line:
            print(client, type(error).__name__, flush=True)
    writer.close()


async def main():
    port = int(sys.argv[1])
    server = await asyncio.start_server(serve, "::", port, backlog=512)
    server6 = await asyncio.start_server(serve, "0.0.0.0", port, backlog=512)
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    server6.close()


asyncio.run(main())
