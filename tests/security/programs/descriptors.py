# SPDX-License-Identifier: Apache-2.0
"""python3 - KIND SOFT: opens descriptors until the kernel says no; prints what it said and how many are open."""

import errno
import json
import os
import resource
import socket
import sys

kind, soft = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
kept = []


def in_flight():
    """A socket holds 253 at once; each is closed here as soon as it is sent."""
    near, far = socket.socketpair()
    kept.extend([near, far])
    near.setblocking(False)
    count = 0
    while True:
        fd = os.open("/dev/null", os.O_RDONLY)
        try:
            socket.send_fds(near, [b"x"], [fd])
        except OSError as error:
            return error, count
        finally:
            os.close(fd)
        count += 1


def open_all():
    make = {
        "files": lambda: os.open("/dev/null", os.O_RDONLY),
        "sockets": lambda: kept.append(socket.socket(socket.AF_UNIX)),
        "eventfds": lambda: os.eventfd(0),
    }[kind]
    highest = len(os.listdir("/proc/self/fd")) - 1
    while True:
        try:
            make()
        except OSError as error:
            return error, highest
        highest += 1


error, count = in_flight() if kind == "in_flight" else open_all()
print(json.dumps({"error": errno.errorcode[error.errno], "open": count}))
os._exit(0 if sys.stdout.flush() is None else 1)
