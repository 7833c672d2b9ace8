"""A server of HTTP/2 without TLS: `incoming_h2.py PORT`. Prints each request when it is whole: path, and body in hex;
answers as gRPC does."""

import socket
import sys

import h2.config
import h2.connection
import h2.events

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]


def serve(sock):
    speaks = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    speaks.initiate_connection()
    paths, bodies = {}, {}
    while True:
        sock.sendall(speaks.data_to_send())
        data = sock.recv(65536)
        if not data:
            return
        for event in speaks.receive_data(data):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.RequestReceived):
                paths[number], bodies[number] = dict(event.headers)[":path"], b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[number] += event.data
                speaks.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.StreamEnded):
                print(paths[number], bodies[number].hex(), flush=True)
                speaks.send_headers(number, ANSWER)
                speaks.send_data(number, b"\0\0\0\0\2ok")
                speaks.send_headers(number, [("grpc-status", "0")], end_stream=True)


with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as server:
    print("up", flush=True)
    while True:
        with server.accept()[0] as connection:
            serve(connection)
