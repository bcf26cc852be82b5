# SPDX-License-Identifier: Apache-2.0
"""What a guest is, seen from inside: root of nothing. A first set; each test names what it tries."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import textwrap

import pytest

from tests.conftest import Agent, groups_of, namespace_only, shim_of

# What root in a container needs: src/sandbox/caps.c.
KEPT = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "net_bind_service": 10,
    "sys_chroot": 18,
    "setfcap": 31,
}

EPERM, ENOSYS = 1, 38

# Tries a system call with these arguments; prints errno, or 0.
SYSCALL = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
out = {}
for name, args in json.load(sys.stdin).items():
    ctypes.set_errno(0)
    r = libc.syscall(*[ctypes.c_long(a) for a in args])
    out[name] = ctypes.get_errno() if r == -1 else 0
print(json.dumps(out))
"""


def python(agent: Agent, vm: str, program: str, input: bytes = b"") -> str:
    """Runs a Python program in a VM."""
    words = ("vm", "exec", "--vm", vm, "--", "python3", "-c", textwrap.dedent(program))
    return agent.run(*words, check=True, input=input).text


@namespace_only("no process of the guest is one of the host")
def test_root_inside_is_nobody_outside(agent: Agent, vm: str) -> None:
    """The range of uids is the VM's own and holds none of the host's."""
    inside, outside, count = map(int, agent.sh(vm, "cat /proc/self/uid_map").text.split())
    assert inside == 0
    if os.geteuid() != 0:
        assert (outside, count) == (os.geteuid(), 1) or outside >= 100000
        return
    assert outside >= 0x60000000 and count == 65536
    held = [int(pid) for group in groups_of(vm) for pid in (group / "cgroup.procs").read_text().split()]
    assert held
    for pid in held:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert all(outside <= int(uid) < outside + count for uid in uids)


@namespace_only("commands have the same capabilities, but no filter: test_microvm.py")
def test_a_command_has_few_capabilities_and_gets_no_more(agent: Agent, vm: str) -> None:
    """Bounding set and effective set are what is kept; no other way to more; a filter is on."""
    status = dict(line.split(":", 1) for line in agent.sh(vm, "cat /proc/self/status").text.splitlines())
    allowed = sum(1 << bit for bit in KEPT.values())
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) & ~allowed == 0, (name, status[name])
    assert int(status["CapInh"], 16) == 0 and int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


def test_the_shim_has_no_capability_left_but_to_end_its_guest(agent: Agent, vm: str) -> None:
    """It only moves bytes once the guest runs; guests in root's namespaces are of another uid."""
    status = pathlib.Path(f"/proc/{shim_of(agent, vm)}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    kept = 1 << KEPT["kill"] if os.geteuid() == 0 else 0
    assert int(fields["CapEff"], 16) == kept and int(fields["CapPrm"], 16) == kept
    assert fields["NoNewPrivs"].strip() == "1"


@namespace_only("the kernel is the guest's own")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_system_calls_that_lead_out_are_refused(agent: Agent, vm: str) -> None:
    """By number, as a program without a libc would."""
    newuser, newns, x32 = 0x10000000, 0x20000, 0x40000000
    tries = {
        "ptrace": ([101, 0, 0, 0, 0], EPERM),
        "mount": ([165, 0, 0, 0, 0, 0], EPERM),
        "umount2": ([166, 0, 0], EPERM),
        "pivot_root": ([155, 0, 0], EPERM),
        "fsopen": ([430, 0, 0], EPERM),
        "open_tree": ([428, -100, 0, 1], EPERM),
        "move_mount": ([429, 0, 0, 0, 0, 0], EPERM),
        "unshare user": ([272, newuser], EPERM),
        "unshare mount": ([272, newns], EPERM),
        "setns": ([308, 0, 0], EPERM),
        "clone user": ([56, newuser | 17, 0, 0, 0, 0], EPERM),
        "clone mount": ([56, newns | 17, 0, 0, 0, 0], EPERM),
        "clone3": ([435, 0, 0], ENOSYS),
        "io_uring_setup": ([425, 1, 0], ENOSYS),
        "io_uring_register": ([427, 0, 0, 0, 0], ENOSYS),
        "bpf": ([321, 0, 0, 0], EPERM),
        "perf_event_open": ([298, 0, 0, -1, -1, 0], EPERM),
        "userfaultfd": ([323, 0], EPERM),
        "keyctl": ([250, 0, 0, 0, 0, 0], EPERM),
        "add_key": ([248, 0, 0, 0, 0, 0], EPERM),
        "process_vm_readv": ([310, 1, 0, 0, 0, 0, 0], EPERM),
        "pidfd_getfd": ([438, 0, 0, 0], EPERM),
        "open_by_handle_at": ([304, -100, 0, 0], EPERM),
        "init_module": ([175, 0, 0, 0], EPERM),
        "kexec_load": ([246, 0, 0, 0, 0], EPERM),
        "reboot": ([169, 0, 0, 0, 0], EPERM),
        "syslog": ([103, 3, 0, 0], EPERM),
        "settimeofday": ([164, 0, 0], EPERM),
        "sethostname": ([170, 0, 0], EPERM),
        "socket AF_ALG": ([41, 38, 5, 0], EPERM),
        "socket AF_PACKET": ([41, 17, 3, 0], EPERM),
        "socket AF_VSOCK": ([41, 40, 1, 0], EPERM),
        "socket AF_NETLINK audit": ([41, 16, 3, 9], EPERM),
        "socket family cut off by the kernel": ([41, (1 << 32) | 40, 1, 0], EPERM),
        "ioctl TIOCSTI": ([16, 0, 0x5412, 0], EPERM),
        "ioctl TIOCSTI with high bits": ([16, 0, (1 << 32) | 0x5412, 0], EPERM),
        "personality": ([135, 0x0400000], ENOSYS),
        "getpid of x32": ([x32 | 39], ENOSYS),
        "a number of tomorrow": ([999], ENOSYS),
    }
    given = json.dumps({name: args for name, (args, _) in tries.items()}).encode()
    got = json.loads(python(agent, vm, SYSCALL, given))
    assert got == {name: errno for name, (_, errno) in tries.items()}


@namespace_only("the kernel is the guest's own")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the instructions are those of x86_64")
def test_the_32_bit_entry_is_closed(agent: Agent, vm: str) -> None:
    """int 0x80 with the number of getpid: an answer would be a pid."""
    program = """
        import ctypes, mmap
        code = bytes.fromhex("53b814000000cd805bc3")
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
    """
    words = ("vm", "exec", "--vm", vm, "--", "python3", "-c", textwrap.dedent(program))
    result = agent.run(*words)
    assert result.text.strip() == f"{-ENOSYS}" or result.code > 128, result


def test_proc_shows_nothing_of_the_host_and_cannot_be_written(agent: Agent, vm: str) -> None:
    """Masks are empty, /proc/sys is read-only, and other processes are the guest's own."""
    script = (
        "for f in kcore kallsyms keys kmsg sysrq-trigger timer_list swaps interrupts; do"
        " [ -e /proc/$f ] && { head -c 1 /proc/$f 2>/dev/null | wc -c; }; done | sort -u;"
        " ls -A /proc/acpi /proc/scsi /proc/tty /proc/driver 2>/dev/null | grep -v ':$' | grep .;"
        " for f in sys/kernel/core_pattern sys/kernel/hostname sys/vm/drop_caches sys/net/ipv4/ip_forward"
        " irq/0/smp_affinity; do"
        " (echo x > /proc/$f) 2>/dev/null && echo wrote $f; done;"
        # /dev/null takes what is written
        ' [ -e /proc/sysrq-trigger ] && stat -c %t:%T /proc/sysrq-trigger | grep -v "^1:3$"; true'
    )
    assert agent.sh(vm, script).text.split() in (["0"], [])
    # A kernel of the guest's own has threads, which have no command line.
    processes = 'for p in /proc/[0-9]*; do grep -q . "$p/cmdline" && cat "$p/comm"; done 2>/dev/null; true'
    assert set(agent.sh(vm, processes).text.split()) <= {"era-init", "era-run", "sh", "cat", "grep"}
    assert agent.sh(vm, "cat /proc/1/comm").text == "era-init\n"


def test_no_mount_of_the_host_is_seen(agent: Agent, vm: str) -> None:
    """Nor a control group that could be written, nor /sys."""
    mounts = [line.split() for line in agent.sh(vm, "cat /proc/mounts").text.splitlines()]
    assert {kind for _, _, kind, *_ in mounts} <= {"overlay", "tmpfs", "devtmpfs", "devpts", "proc"}
    assert str(agent.state) not in agent.sh(vm, "cat /proc/self/mountinfo").text
    assert agent.sh(vm, "ls -A /sys | wc -l").text == "0\n"
    for line in agent.sh(vm, "cat /proc/self/cgroup").text.splitlines():
        assert line.split(":", 2)[2] == "/" or vm not in line, line


def test_dev_is_a_handful(agent: Agent, vm: str) -> None:
    """No disk, no memory, no loop device; and none can be made."""
    names = set(agent.sh(vm, "ls -A /dev").text.split())
    assert names == {
        *("null", "zero", "full", "random", "urandom", "tty"),
        *("fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm"),
    }
    made = agent.sh(vm, "mknod /tmp/disk b 7 0 2>/dev/null; mknod /tmp/mem c 1 1 2>/dev/null; ls /tmp", check=False)
    assert made.text == ""
    assert agent.sh(vm, "cat /dev/zero | head -c 3 | wc -c; echo x > /dev/null").text == "3\n"


def test_nothing_of_the_caller_crosses(agent: Agent, vm: str) -> None:
    """No descriptor beyond 0, 1, 2; no variable; not the working directory."""
    look = ("vm", "exec", "--vm", vm, "--", "/bin/sh", "-c", "ls /proc/self/fd; pwd; env")
    result = agent.run(*look, env={"SECRET_OF_HOST": "x"}, check=True)
    words = result.text.split()
    assert words[:4] == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    assert words[4] == "/workspace"
    assert "SECRET_OF_HOST" not in result.text and str(agent.state) not in result.text
    assert agent.sh(vm, "hostname 2>/dev/null || cat /proc/sys/kernel/hostname").text.strip() == vm


def test_vms_do_not_see_each_other(agent: Agent, vm: str) -> None:
    """Not by processes, abstract sockets, System V memory, or files."""
    other = agent.create()
    try:
        listener = agent.start(
            *("vm", "exec", "--vm", other, "--", "python3", "-c"),
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind('\\0era-test'); s.listen();"
            "open('/tmp/secret-of-other', 'w'); print('up', flush=True); sys.stdin.read()",
            stdout=-1,
            stdin=-1,
        )
        assert listener.stdout is not None and listener.stdout.readline() == b"up\n"
        program = """
            import glob, socket
            try:
                socket.socket(socket.AF_UNIX).connect('\\0era' + '-test')
                print('connected')
            except OSError:
                pass
            commands = [open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline")]
            print(any(b"secret-" + b"of-other" in command for command in commands), glob.glob("/tmp/*"))
        """
        assert python(agent, vm, program) == "False []\n"
        listener.communicate(b"", timeout=30)
    finally:
        agent.clean(other)


@namespace_only("each guest has all uids of its own kernel")
def test_vms_share_no_uid(agent: Agent, vm: str) -> None:
    """As root each has a range; an ordinary user has but his own."""
    other = agent.create()
    try:
        one, two = (agent.sh(each, "cat /proc/self/uid_map").text for each in (vm, other))
        assert os.geteuid() != 0 or one != two
    finally:
        agent.clean(other)


def test_an_image_whose_folders_are_links_boots_and_touches_nothing(fresh_state: Agent, tmp_path: pathlib.Path) -> None:
    """/dev, /proc, /workspace and /etc of an image that point to the host: they are made anew, here and not there."""
    agent = fresh_state
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "resolv.conf").write_text("host")
    root = agent.state / "images" / "agent%2Fpython%3A3.11" / "rootfs"
    for name in ("dev", "proc", "workspace", "sys", "mnt"):
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        path.symlink_to(victim)
    (root / "dev").unlink()
    (root / "dev").symlink_to("../../../../../../../../.." + str(victim))
    vm = agent.create()
    try:
        script = "for d in dev proc workspace; do [ -L /$d ] && echo link; done; cat /proc/1/comm; ls -d /workspace/*; pwd"
        assert agent.sh(vm, script).text.split() == ["era-init", "/workspace/in", "/workspace/out", "/workspace"]
        agent.sh(vm, "echo x > /dev/null; echo x > /workspace/out/file")
    finally:
        agent.clean(vm)
    assert [path.name for path in victim.iterdir()] == ["resolv.conf"]
    assert (victim / "resolv.conf").read_text() == "host"
