# SPDX-License-Identifier: Apache-2.0
"""Programs that want more memory than there is: python3 - NAME. Each takes what it can get and never gives back."""

import ctypes
import mmap
import os
import resource
import select
import signal
import socket
import sys

MIB = 1 << 20
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def malloc():
    kept = []
    while True:
        kept.append(b"x" * MIB)


def anonymous_mapping():
    mapping = mmap.mmap(-1, 512 * MIB)  # no host refuses that as more than it has
    for offset in range(0, len(mapping), mmap.PAGESIZE):
        mapping[offset] = 1


def locked_mapping():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.getrlimit(resource.RLIMIT_MEMLOCK)[1],) * 2)
    kept = []
    while True:
        kept.append(mmap.mmap(-1, MIB))
        address = ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))
        libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(MIB))  # which that limit ends before memory does, or after
        kept[-1].write(b"x" * MIB)


def memfd():
    fd = os.memfd_create("hog")
    while True:
        os.write(fd, b"x" * MIB)


def system_v_memory():
    while True:
        segment = libc.shmget(0, MIB, 0o1600)
        assert segment >= 0, os.strerror(ctypes.get_errno())
        ctypes.memset(libc.shmat(segment, None, 0), 1, MIB)


def system_v_messages():
    message = ctypes.create_string_buffer(b"\1" + b"\0" * 8000)
    while True:
        queue = libc.msgget(0, 0o1600)
        assert queue >= 0, os.strerror(ctypes.get_errno())
        while libc.msgsnd(queue, message, 8000, 0o4000) == 0:
            pass


def fill(fd):
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, b"x" * 65536)
    except BlockingIOError:
        pass


def pipes():
    while True:
        fill(os.pipe()[1])


def unix_sockets():
    kept = []
    while True:
        kept.append(socket.socketpair())
        fill(kept[-1][0].fileno())
        fill(kept[-1][1].fileno())


def epolls():
    watched = [os.eventfd(0) for _ in range(400)]
    kept = []
    while True:
        kept.append(select.epoll())
        for fd in watched:
            kept[-1].register(fd)


def sockets_without_end():
    kept = []
    while True:
        kept.append(socket.socket())


def in_many_processes(work):
    """One may have too few descriptors for this: each takes what it can and keeps it, then comes the next. All die with us."""
    for _ in range(100):
        killed, full = os.pipe()
        if os.fork() == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                work()
            except OSError:
                os.write(full, b"x")
                signal.pause()
        os.close(full)
        if os.read(killed, 1) == b"":
            break
        os.close(killed)
    os.kill(os.getpid(), signal.SIGKILL)


NEED_MANY = {"pipes": pipes, "unix_sockets": unix_sockets, "epolls": epolls, "sockets_without_end": sockets_without_end}
ALONE = {name: value for name, value in globals().items() if callable(value) and name not in NEED_MANY}

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if sys.argv[1] in NEED_MANY:
    in_many_processes(NEED_MANY[sys.argv[1]])
else:
    ALONE[sys.argv[1]]()
