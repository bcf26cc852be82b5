# SPDX-License-Identifier: Apache-2.0
"""python3 - NAME [COUNT]: as many processes or threads as can be had, or so many; says how many there were, and ends."""

import os
import signal
import subprocess
import sys
import threading
import time


def threads():
    hold = threading.Event()
    started = []
    threading.stack_size(65536)
    try:
        while True:
            started.append(threading.Thread(target=hold.wait))
            started[-1].start()
    except RuntimeError:
        print(len(started), flush=True)
    hold.set()
    for thread in started[:-1]:
        thread.join()


def processes():
    children = []
    try:
        while True:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except BlockingIOError:
        print(len(children), flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def zombies():
    """Children that are never reaped: they count, and go with their parent."""
    count = 0
    try:
        while True:
            if os.fork() == 0:
                os._exit(0)
            count += 1
    except BlockingIOError:
        print(count, flush=True)


def orphaned_zombies():
    """Children of children that are never reaped, whose parents are gone; more of them than there is room for."""
    for _ in range(int(sys.argv[2])):
        if os.fork() == 0:
            for _ in range(3):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.wait()
    print("done", flush=True)


def zombies_of_one_that_stays():
    """The command ends; a daemon of it stays behind with children that it does not reap."""
    if os.fork() == 0:
        os.setsid()
        for _ in range(20):
            if os.fork() == 0:
                os._exit(0)
        print("done", flush=True)
        time.sleep(1000)
    time.sleep(0.5)


def spawned():
    """By vfork and exec, as posix_spawn() and subprocess do."""
    children = []
    try:
        while True:
            children.append(subprocess.Popen(["sleep", "1000"]))
    except BlockingIOError:
        print(len(children), flush=True)
    for child in children:
        child.kill()
        child.wait()


globals()[sys.argv[1]]()
