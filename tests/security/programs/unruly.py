# SPDX-License-Identifier: Apache-2.0
"""Programs that do not want to end, each in its own way: python3 - NAME. None of them ends by itself."""

import ctypes
import os
import signal
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36
PTRACE_TRACEME = 0


def sleep():
    while True:
        time.sleep(1000)


def beside(work):
    """Does it in a child, so that the command itself goes on."""
    if os.fork() == 0:
        work()
    sleep()


def run_away(between=lambda: None):
    """Each process lives just long enough to make the next one."""
    while True:
        try:
            if os.fork() > 0:
                os._exit(0)
            between()
        except OSError:
            pass


def ignores_every_signal():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    sleep()


def double_forks():
    if os.fork() == 0:
        if os.fork() == 0:
            sleep()
        os._exit(0)
    os.wait()
    sleep()


def makes_sessions():
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                sleep()
            os._exit(0)
    sleep()


def changes_its_user():
    if os.fork() == 0:
        os.setgid(1000)
        os.setuid(1000)
    sleep()


def stops_itself():
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep()


def stops_in_a_vfork():
    """The parent waits in the kernel for a child that has stopped: this program lies at the other end of a FIFO."""
    os.mkfifo("/tmp/never-written")
    beside(lambda: os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/tmp/never-written", 0, 0)]))


def holds_the_pipes():
    """The parent dies at once; who waits for the end of output, waits for a grandchild."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            while True:
                os.write(1, b"more\n")
                time.sleep(0.05)
        os._exit(0)
    os.wait()
    sleep()


def exits_its_main_thread():
    """What is left of it is a thread; the process looks like a zombie, but for the count of its threads."""
    import threading

    def work():
        threading.Thread(target=sleep).start()
        libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)

    if os.fork() == 0:
        work()
    work()


def renames_itself():
    """A name that looks like the end of the line that the killer parses."""
    libc.prctl(15, b") Z 1 1 (x", 0, 0, 0)
    if os.fork() == 0:
        libc.prctl(15, b"era-run", 0, 0, 0)
    sleep()


def is_a_subreaper():
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    beside(run_away)


def runs_away():
    beside(run_away)


def runs_away_in_sessions():
    beside(lambda: run_away(os.setsid))


def forks_faster_than_it_is_killed():
    while True:
        try:
            os.fork()
        except OSError:
            pass


def vforks_for_ever():
    """As posix_spawn() does: children that borrow their parent's memory and name another program."""
    os.fork()
    os.fork()
    while True:
        try:
            os.posix_spawn("/bin/true", ["true"], {})
        except OSError:
            pass


def starts_threads_that_fork():
    import threading

    for _ in range(8):
        threading.Thread(target=forks_faster_than_it_is_killed).start()


def traces_its_child():
    child = os.fork()
    if child == 0:
        refused = libc.ptrace(PTRACE_TRACEME, 0, 0, 0)
        print("traced" if refused == 0 else "refused", flush=True)
        sleep()
    libc.ptrace(16, child, 0, 0)
    sleep()


def kills_its_leader():
    """It is orphaned to init, which knows it by no run's tree any more."""
    os.kill(os.getppid(), signal.SIGKILL)
    beside(sleep)


def kills_its_leader_and_runs_away():
    os.kill(os.getppid(), signal.SIGKILL)
    runs_away()


def kills_its_leader_and_runs_away_in_sessions():
    os.kill(os.getppid(), signal.SIGKILL)
    runs_away_in_sessions()


def kills_its_leader_and_runs_away_in_a_crowd():
    os.kill(os.getppid(), signal.SIGKILL)
    for _ in range(30):
        if os.fork() == 0:
            run_away(os.setsid)
    sleep()


def wakes_its_leader():
    """The leader is stopped while its descendants are killed, and is not to go before they have."""
    leader = os.getppid()
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            while True:
                os.kill(leader, signal.SIGCONT)
    sleep()


def waits_for_everything():
    """A full pipe, a FIFO without a writer, a record lock, a child: each in a process of its own."""
    if os.fork() == 0:
        _, end = os.pipe()
        while True:
            os.write(end, b"x" * 65536)
    if os.fork() == 0:
        os.mkfifo("/tmp/fifo")
        os.open("/tmp/fifo", os.O_RDONLY)
    lock = os.open("/tmp/lock", os.O_CREAT | os.O_RDWR)
    os.lockf(lock, os.F_LOCK, 0)
    if os.fork() == 0:
        os.lockf(lock, os.F_LOCK, 0)
    os.wait()


globals()[sys.argv[1]]()
