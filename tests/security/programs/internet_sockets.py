# SPDX-License-Identifier: Apache-2.0
"""Fills N sockets with data that nobody reads, of TCP and then of UDP: prints how many bytes lie in them."""

import json
import socket
import sys

count = int(sys.argv[1])
sent = {"tcp": 0, "udp": 0}


def fill(kind, send):
    for _ in range(8):
        try:
            while True:
                sent[kind] += send(b"x" * 32768)
        except BlockingIOError:
            pass


kept = []
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(count // 2):
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    for end in (near, far):
        end.setblocking(False)
        fill("tcp", end.send)
        kept.append(end)
for end in kept:
    end.close()

kept = []
for _ in range(count):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind(("127.0.0.1", 0))
    end.connect(end.getsockname())
    kept.append(end)
    for _ in range(20):  # what does not fit is dropped silently
        end.send(b"x" * 32768)
for end in kept:
    end.setblocking(False)
    try:
        while True:
            sent["udp"] += len(end.recv(65536))
    except BlockingIOError:
        pass
print(json.dumps(sent))
