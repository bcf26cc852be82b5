# SPDX-License-Identifier: Apache-2.0
"""python3 - KIND: takes all of it that can be had; prints how many, and holds them until its input ends."""

import ctypes
import os
import resource
import signal
import sys

libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])


def open_queue() -> int:
    name = f"/counted-{os.getpid()}".encode()
    queue: int = libc.mq_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, None)
    libc.mq_unlink(name)
    return queue


def send_signal() -> int:
    sent: int = libc.sigqueue(os.getpid(), signal.SIGRTMIN, None)
    return sent


take = {"terminals": libc.getpt, "inotify": libc.inotify_init, "queues": open_queue, "signals": send_signal}[sys.argv[1]]
count = 0
while take() >= 0:
    count += 1
print(count, flush=True)
sys.stdin.read()
