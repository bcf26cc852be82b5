# SPDX-License-Identifier: Apache-2.0
"""System calls on which programs stumble in sandboxes, each as programs make them: prints what did not do as it should."""

import ctypes
import errno
import locale
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NUMBERS = {
    "x86_64": {"getcpu": 309, "membarrier": 324, "clone3": 435, "io_uring_setup": 425, "personality": 135, "renameat2": 316,
               "statx": 332, "close_range": 436, "rseq": 334, "mlock2": 325, "faccessat2": 439, "openat2": 437},
    "aarch64": {"getcpu": 168, "membarrier": 283, "clone3": 435, "io_uring_setup": 425, "personality": 92, "renameat2": 276,
                "statx": 291, "close_range": 436, "rseq": 293, "mlock2": 284, "faccessat2": 439, "openat2": 437},
}[os.uname().machine]
folder = tempfile.mkdtemp()


def call(name, *arguments):
    """0 and more, or the negative errno."""
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(NUMBERS[name]), *arguments)
    return answer if answer >= 0 else -ctypes.get_errno()


def signals_and_handlers():
    got = []
    signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    os.kill(os.getpid(), signal.SIGRTMIN)
    return got == [signal.SIGALRM] and signal.sigwait({signal.SIGRTMIN}) == signal.SIGRTMIN


def affinity():
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    one = os.sched_getaffinity(0)
    os.sched_setaffinity(0, every)
    return len(one) == 1 and os.sched_getaffinity(0) == every


def posix_spawn():
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ, setpgroup=0, setsigdef=[signal.SIGPIPE])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def clone3_falls_back():
    threads = [threading.Thread(target=time.sleep, args=(0,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    return call("clone3", None, 0) == -errno.ENOSYS and all(thread.join() is None for thread in threads)


def io_uring_is_absent():
    return call("io_uring_setup", 8, None) == -errno.ENOSYS


def memfd_and_seals():
    import fcntl

    fd = os.memfd_create("name", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    try:
        os.ftruncate(fd, 0)
    except PermissionError:
        return mmap.mmap(fd, 4096)[:1] == b"\0"
    return False


def statx_and_openat2():
    buffer = ctypes.create_string_buffer(256)
    how = (ctypes.c_uint64 * 3)(0, 0, 0x08)  # RESOLVE_BENEATH
    fd = call("openat2", -100, b"etc/hostname", ctypes.byref(how), 24) if os.chdir("/") is None else -1
    return call("statx", -100, b"/", 0, 0xFFF, buffer) == 0 and fd >= 0 and call("faccessat2", -100, b"/", 4, 0x200) == 0


def close_range():
    fd = os.dup2(1, 500)
    return call("close_range", 500, 500, 0) == 0 and not os.path.exists(f"/proc/self/fd/{fd}")


def pidfd():
    child = os.fork()
    if child == 0:
        signal.pause()
    fd = os.pidfd_open(child)
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    select.select([fd], [], [], 10)
    return os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status == signal.SIGTERM


def renameat2():
    for name in "ab":
        open(f"{folder}/{name}", "w").write(name)
    a, b = f"{folder}/a".encode(), f"{folder}/b".encode()
    return (call("renameat2", -100, a, -100, b, 1) == -errno.EEXIST and call("renameat2", -100, a, -100, b, 2) == 0
            and open(f"{folder}/a").read() == "b")


def copies_in_the_kernel():
    source, target = open(f"{folder}/source", "w+b"), open(f"{folder}/target", "w+b")
    source.write(b"x" * 100000)
    source.flush()
    copied = os.copy_file_range(source.fileno(), target.fileno(), 60000, 0, 0)
    return copied == 60000 and os.sendfile(target.fileno(), source.fileno(), 60000, 40000) == 40000


def personality():
    return call("personality", ctypes.c_ulong(0xFFFFFFFF)) == 0 and call("personality", 0) == 0


def cpus_and_barriers():
    cpu = ctypes.c_uint(99)
    return call("getcpu", ctypes.byref(cpu), None, None) == 0 and cpu.value < 99 and call("membarrier", 0, 0, 0) > 0


def rseq_is_registered_by_libc():
    return call("rseq", None, 0, 0, 0) != -errno.ENOSYS


def limits_and_priorities():
    resource.prlimit(0, resource.RLIMIT_NOFILE, (512, resource.prlimit(0, resource.RLIMIT_NOFILE)[1]))
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    return os.getpriority(os.PRIO_PROCESS, 0) == 5 and resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512


def locked_memory():
    page = mmap.mmap(-1, 16 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return libc.mlock(ctypes.c_void_p(address), 65536) == 0 and libc.munlock(ctypes.c_void_p(address), 65536) == 0


def executable_memory():
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return len(page) == mmap.PAGESIZE


def inotify():
    fds = [libc.inotify_init1(0o4000) for _ in range(20)]
    watch = libc.inotify_add_watch(fds[0], folder.encode(), 0x100)
    open(f"{folder}/seen", "w").close()
    return min(fds) >= 0 and watch > 0 and b"seen" in os.read(fds[0], 4096)


def locales():
    locale.setlocale(locale.LC_ALL, "")
    return locale.nl_langinfo(locale.CODESET) == "UTF-8" and sys.getfilesystemencoding() == "utf-8"


def semaphores_and_shared_memory():
    lock = multiprocessing.get_context("spawn").Semaphore(2)
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    again = multiprocessing.shared_memory.SharedMemory(memory.name)
    memory.buf[0] = 7
    same = again.buf[0] == 7
    again.close()
    memory.close()
    memory.unlink()
    return lock.acquire(timeout=1) and same


def descriptors_by_path():
    reader, writer = os.pipe()
    os.write(os.open(f"/proc/self/fd/{writer}", os.O_WRONLY), b"word")
    return os.read(os.open(f"/dev/fd/{reader}", os.O_RDONLY), 4) == b"word" and open("/dev/stdin").fileno() >= 0


def terminals():
    leader, follower = os.openpty()
    os.write(follower, b"line\n")
    return os.isatty(follower) and os.read(leader, 10) == b"line\r\n"


def unix_sockets_with_credentials():
    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    near.send(b"x")
    _, control, _, _ = far.recvmsg(1, 100)
    return int.from_bytes(control[0][2][:4], sys.byteorder) == os.getpid()


def interfaces():
    return ("lo" in dict(map(reversed, socket.if_nameindex()))
            and socket.getaddrinfo("localhost", 80)[0][4][0] in ("127.0.0.1", "::1"))


def users_and_groups():
    child = os.fork()
    if child == 0:
        os.setgroups([1000])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        try:
            os.listdir(folder)  # root's alone
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def locks_between_processes():
    import fcntl

    file = open(f"{folder}/lock", "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    child = os.fork()
    if child == 0:
        try:
            fcntl.flock(open(f"{folder}/lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def clocks():
    return all(time.clock_gettime(clock) >= 0 for clock in (time.CLOCK_BOOTTIME, time.CLOCK_TAI, time.CLOCK_THREAD_CPUTIME_ID))


def chroots():
    child = os.fork()
    if child == 0:
        os.chroot(folder)
        os._exit(0 if os.path.exists("/seen") else 1)
    return os.waitpid(child, 0)[1] == 0


tests = [value for value in list(globals().values()) if callable(value) and getattr(value, "__module__", "") == "__main__"
         and value is not call]
for test in tests:
    try:
        good = test()
    except Exception as error:
        good = repr(error)
    if good is not True:
        print(test.__name__, good, flush=True)
print(f"{len(tests)} tried")
