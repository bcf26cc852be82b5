# SPDX-License-Identifier: Apache-2.0
"""/proc, /sys, /dev and control groups: what tells of the host, or acts on it."""

from __future__ import annotations

import os
import pathlib

from tests.conftest import groups_of
from tests.security.conftest import Arena

# Tries to open every file below some folders for writing, and to write a byte; prints those that took it.
WRITE_ALL = """
import json, os, stat, sys
taken, tried = [], 0
for top in json.load(sys.stdin):
    for folder, folders, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    continue
                tried += 1
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(fd, b"0")
                taken.append(path)
            except OSError:
                pass
print(json.dumps([taken, tried]))
"""


def test_writing_every_setting_of_the_kernel(arena: Arena) -> None:
    """All of /proc/sys, those included that are the VM's own by namespace."""
    taken, tried = arena.ask(WRITE_ALL, ["/proc/sys", "/proc/irq", "/proc/fs", "/proc/bus"])
    assert taken == [] and tried > 500


def test_writing_every_other_file_of_proc(arena: Arena) -> None:
    """sysrq-trigger, and whatever else this kernel has beside the processes."""
    program = """
        import json, os
        taken = []
        for name in os.listdir("/proc"):
            if name.isdigit() or name in ("self", "thread-self") or os.path.isdir(f"/proc/{name}"):
                continue
            try:
                fd = os.open(f"/proc/{name}", os.O_WRONLY | os.O_NONBLOCK)
                os.write(fd, b"0")
                if os.fstat(fd).st_rdev != os.makedev(1, 3):  # a cover, which is /dev/null
                    taken.append(name)
            except OSError:
                pass
        print(json.dumps(taken))
    """
    assert arena.ask(program) == []


def test_the_core_handler_of_the_host(arena: Arena) -> None:
    """core_pattern and modprobe name programs that the host's kernel starts as the host's root."""
    names = [name for name in ("core_pattern", "modprobe", "hotplug") if os.path.exists(f"/proc/sys/kernel/{name}")]
    assert "core_pattern" in names
    before = [pathlib.Path(f"/proc/sys/kernel/{name}").read_text() for name in names]
    for name in names:
        assert arena.run("/bin/sh", "-c", f"echo '|/tmp/x' > /proc/sys/kernel/{name}", check=False).code != 0
    assert before == [pathlib.Path(f"/proc/sys/kernel/{name}").read_text() for name in names]


def test_what_the_covers_of_proc_cover(arena: Arena) -> None:
    """A covered file is empty, a covered folder as well, and neither can be taken away or written."""
    names = "kcore kallsyms keys key-users kmsg timer_list swaps interrupts iomem ioports modules sched_debug slabinfo " \
        "vmallocinfo zoneinfo buddyinfo pagetypeinfo acpi scsi tty driver pressure asound dynamic_debug".split()
    program = """
        import json, os, sys
        out = []
        for name in json.load(sys.stdin):
            path = f"/proc/{name}"
            if not os.path.exists(path):
                continue
            if os.path.isdir(path):
                content = os.listdir(path)
            else:
                try:
                    content = open(path, "rb").read(10)
                except OSError:
                    content = b""
            if content:
                out.append([name, "has content"])
            for action in (os.unlink, os.rmdir, lambda p: os.rename(p, "/proc/x"), lambda p: os.chmod(p, 0o777),
                           lambda p: os.open(p + "/x", os.O_CREAT | os.O_WRONLY)):
                try:
                    action(path)
                    out.append([name, "changed"])
                except OSError:
                    pass
        print(json.dumps(out))
    """
    assert arena.ask(program, names) == []


def test_uncovering_by_links_of_processes(arena: Arena) -> None:
    """Other names of the same /proc: by the root, the descriptors and the tasks of processes (CVE-2019-16884, CVE-2023-27561)."""
    program = """
        import json, os
        opened = []
        root = os.open("/proc", os.O_RDONLY)
        for start in ("/proc/self/root/proc", "/proc/thread-self/root/proc", f"/proc/self/fd/{root}", "/proc/self/cwd/../proc",
                      f"/proc/self/task/{os.getpid()}/root/proc", "/proc/1/root/proc"):
            for name in ("sysrq-trigger", "sys/kernel/core_pattern", "sys/vm/drop_caches", "kcore", "kmsg"):
                try:
                    fd = os.open(f"{start}/{name}", os.O_WRONLY)
                    os.write(fd, b"0")
                    if os.fstat(fd).st_rdev != os.makedev(1, 3):
                        opened.append(f"{start}/{name}")
                except OSError:
                    pass
        print(json.dumps(opened))
    """
    assert arena.ask(program) == []


def test_control_groups(arena: Arena) -> None:
    """None is mounted, none is named, and release_agent is nowhere; a mount of one is refused."""
    assert arena.sh("find / -xdev \\( -name 'cgroup.procs' -o -name release_agent -o -name notify_on_release \\) | wc -l") == "0\n"
    assert arena.sh("grep -cE ' cgroup2? ' /proc/mounts", check=False) == "0\n"
    named = arena.sh("cat /proc/self/cgroup /proc/1/cgroup")
    for line in named.splitlines():
        assert line.split(":", 2)[2] == "/" or arena.vm not in line, line
    for group in groups_of(arena.vm):
        agents = [path for path in (group / "release_agent", group / "notify_on_release") if path.exists()]
        assert all(path.read_text().strip() in ("", "0") for path in agents)


def test_sys_and_debugfs(arena: Arena) -> None:
    """/sys is an empty folder, and nothing of the kind is mounted."""
    kinds = {line.split()[2] for line in arena.sh("cat /proc/mounts").splitlines()}
    assert kinds <= {"overlay", "tmpfs", "devtmpfs", "devpts", "proc"}
    assert arena.sh("ls -A /sys | wc -l") == "0\n"


def test_flags_of_every_mount(arena: Arena) -> None:
    """nosuid everywhere; no devices but in /dev and as covers; nothing of the host's tree is shared with it."""
    for line in arena.sh("cat /proc/self/mountinfo").splitlines():
        left, right = line.split(" - ")
        point, flags, tags = left.split()[4], left.split()[5].split(","), left.split()[6:]
        assert "nosuid" in flags, line
        assert "nodev" in flags or point.startswith(("/dev", "/proc")), line
        assert not any(tag.startswith(("shared:", "master:")) for tag in tags), line
        assert str(arena.agent.state) not in line


def test_bounds_of_every_file_system_that_can_be_written(arena: Arena) -> None:
    """Bytes and inodes: half of the VM's memory at most, each."""
    program = """
        import json, os
        out = {}
        for line in open("/proc/mounts"):
            _, point, kind, *_ = line.split()
            if kind in ("tmpfs", "overlay") and os.access(point, os.W_OK):
                fs = os.statvfs(point)
                out[point] = [fs.f_blocks * fs.f_frsize, fs.f_files]
        print(json.dumps(out))
    """
    bounds = arena.ask(program)
    assert isinstance(bounds, dict) and {"/", "/dev", "/dev/shm"} <= set(bounds)
    for point, (size, inodes) in bounds.items():
        assert 0 < size <= 128 << 20 and 0 < inodes <= 256 * 128, (point, size, inodes)


def test_devices_of_the_host(arena: Arena) -> None:
    """Each node in /dev is what its name says, and there is no other."""
    numbers = arena.sh("cd /dev && stat -c '%n %F %t %T' *").splitlines()
    nodes = {line.split()[0]: line.split()[-2:] for line in numbers if "special" in line}
    assert nodes == {
        **{"null": ["1", "3"], "zero": ["1", "5"], "full": ["1", "7"], "random": ["1", "8"], "urandom": ["1", "9"]},
        "tty": ["5", "0"],
    }


def test_changing_the_host_s_devices(arena: Arena) -> None:
    """/dev/null of the VM is the host's: its mode, owner, times and attributes are out of reach."""
    before = os.stat("/dev/null")
    program = """
        import json, os
        taken = []
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            path = f"/dev/{name}"
            for action in (lambda: os.chmod(path, 0), lambda: os.chown(path, 0, 0), lambda: os.utime(path, (0, 0)),
                           lambda: os.unlink(path), lambda: os.rename(path, "/dev/x"), lambda: os.link(path, "/dev/y"),
                           lambda: os.setxattr(path, "user.x", b"x"), lambda: os.truncate(path, 0)):
                try:
                    action()
                    taken.append(name)
                except OSError:
                    pass
        print(json.dumps(taken))
    """
    assert arena.ask(program) == []
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, after.st_uid, after.st_gid)


def test_a_watch_on_the_host_s_files(arena: Arena) -> None:
    """inotify sees what paths lead to, and no path leads to the host; its instances are bounded."""
    program = """
        import ctypes, json
        libc = ctypes.CDLL(None, use_errno=True)
        count = 0
        while count < 5000 and libc.inotify_init() >= 0:
            count += 1
        print(json.dumps(count))
    """
    count = arena.ask(program)
    assert isinstance(count, int) and count < 5000
    fresh = os.open("/tmp", os.O_RDONLY)
    os.close(fresh)
    assert arena.sh("echo alive") == "alive\n"
