# SPDX-License-Identifier: Apache-2.0
"""From one VM to another, and to the programs of the host: nothing is shared that could be found."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess

from tests.conftest import shim_of
from tests.security.conftest import Arena

# Leaves something of every kind, says so, and waits for the end of stdin.
LEAVE = """
import ctypes, os, socket, sys, mmap
libc = ctypes.CDLL(None, use_errno=True)
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\\0era-secret"); abstract.listen()
named = socket.socket(socket.AF_UNIX); named.bind("/tmp/era-secret.sock"); named.listen()
tcp = socket.create_server(("127.0.0.1", 4711))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 4711))
segment = libc.shmget(4711, 4096, 0o1666)
semaphore = libc.semget(4711, 1, 0o1666)
queue = libc.msgget(4711, 0o1666)
memory = os.memfd_create("era-secret"); os.write(memory, b"era-secret")
for path in ("/dev/shm/era-secret", "/tmp/era-secret", "/workspace/era-secret", "/workspace/out/era-secret"):
    open(path, "w").write("era-secret")
posix = ctypes.CDLL("librt.so.1").mq_open(b"/era-secret", os.O_CREAT | os.O_RDWR, 0o666, None)
print([segment >= 0, semaphore >= 0, queue >= 0, posix >= 0], flush=True)
sys.stdin.read()
"""

# Looks for all of it; prints what it found.
SEEK = """
import ctypes, glob, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
found = []
def seek(name, what):
    try:
        if what() not in (-1, None, False, []):
            found.append(name)
    except OSError:
        pass
seek("an abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\\0era-" + "secret") is None)
seek("a named socket", lambda: socket.socket(socket.AF_UNIX).connect("/tmp/era-" + "secret.sock") is None)
seek("a TCP port", lambda: socket.create_connection(("127.0.0.1", 4711), 1) is not None)
seek("System V memory", lambda: libc.shmget(4711, 4096, 0))
seek("System V semaphores", lambda: libc.semget(4711, 1, 0))
seek("a System V queue", lambda: libc.msgget(4711, 0))
seek("a POSIX queue", lambda: ctypes.CDLL("librt.so.1").mq_open(b"/era-" + b"secret", os.O_RDWR))
seek("files", lambda: [p for top in ("/tmp", "/dev/shm", "/workspace") for p in glob.glob(top + "/**/era-" + "secret*", recursive=True)])
seek("descriptors", lambda: [p for p in glob.glob("/proc/[0-9]*/fd/*") if "era-" + "secret" in os.readlink(p)])
seek("unix sockets", lambda: [l for l in open("/proc/net/unix") if "era-" + "secret" in l])
seek("processes", lambda: [p for p in glob.glob("/proc/[0-9]*/cmdline") if "era_" + "neighbour" in open(p).read()])
seek("System V tables", lambda: open("/proc/sysvipc/shm").read().count("4711") or None)
seek("keys", lambda: open("/proc/keys").read() or None)
print(json.dumps(found))
"""


def test_what_another_vm_has(arena: Arena, neighbour: Arena) -> None:
    """Sockets, ports, shared memory, queues, semaphores, files, memfds, processes, keys."""
    words = ("vm", "exec", "--vm", neighbour.vm, "--", "python3", "-c", LEAVE, "era_neighbour")
    left = neighbour.agent.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert left.stdout is not None and left.stdout.readline() == b"[True, True, True, True]\n"
        seen = neighbour.ask(SEEK)
        assert isinstance(seen, list) and len(seen) >= 8, f"who is in that VM finds it: {seen}"
        assert arena.ask(SEEK) == []
    finally:
        left.communicate(b"", timeout=30)


def test_signals_to_another_vm_and_to_the_host(arena: Arena, neighbour: Arena) -> None:
    """Every pid there could be is one of the VM's own, or none."""
    waiting = neighbour.agent.start("vm", "exec", "--vm", neighbour.vm, "--cmd", "echo up; cat", stdin=-1, stdout=-1)
    assert waiting.stdout is not None and waiting.stdout.readline() == b"up\n"
    shims = [shim_of(each.agent, each.vm) for each in (arena, neighbour)]
    program = """
        import os, signal, sys, json
        own = {int(p) for p in os.listdir("/proc") if p.isdigit()}
        reached = []
        for pid in [*json.load(sys.stdin), *range(2, 70000)]:
            if pid in own:
                continue
            try:
                os.kill(pid, 0)
                reached.append(pid)
            except ProcessLookupError:
                pass
        print(json.dumps([pid for pid in reached if not os.path.exists(f"/proc/{pid}")]))
    """
    assert arena.ask(program, [*shims, os.getpid()]) == []
    out, _ = waiting.communicate(b"still here", timeout=30)
    assert (waiting.returncode, out) == (0, b"still here")


def test_abstract_sockets_of_the_host(arena: Arena) -> None:
    """A network namespace divides them; a shim or a display server would be found otherwise."""
    with socket.socket(socket.AF_UNIX) as listener:
        name = f"\0era-host-{os.getpid()}"
        listener.bind(name)
        listener.listen()
        program = """
            import json, socket, sys
            name = json.load(sys.stdin)
            try:
                socket.socket(socket.AF_UNIX).connect("\\0" + name)
                print(1)
            except ConnectionRefusedError:
                print(0)
        """
        assert arena.ask(program, name[1:]) == 0
        assert name[1:] not in arena.sh("cat /proc/net/unix")


def test_the_agent_s_own_sockets_and_records(arena: Arena) -> None:
    """vm.sock, state.db, shim.lock, images, volumes: by their paths on the host, and by any path at all."""
    program = """
        import json, os, sys
        state = json.load(sys.stdin)
        found = [p for p in (state, "/var/lib/agent", "/root/.agent", "/run/agent") if os.path.exists(p)]
        for folder, folders, names in os.walk("/"):
            if folder.startswith("/proc"):
                folders.clear()
                continue
            found += [os.path.join(folder, n) for n in names if n in ("vm.sock", "state.db", "shim.lock", "shim.log", "op.lock")]
        print(json.dumps(found))
    """
    assert arena.ask(program, str(arena.agent.state)) == []


def test_passing_descriptors_between_commands(arena: Arena) -> None:
    """What a socket can carry is what a command has: no descriptor of the host's comes by one, and none leads out."""
    program = """
        import json, os, socket
        one, two = socket.socketpair()
        root, proc = os.open("/", os.O_RDONLY), os.open("/proc/self/ns", os.O_RDONLY)
        socket.send_fds(one, [b"x"], [root, proc, one.fileno(), two.fileno()])
        _, fds, _, _ = socket.recv_fds(two, 1, 10)
        up = os.open("..", os.O_RDONLY, dir_fd=fds[0])
        same = os.fstat(up).st_ino == os.fstat(root).st_ino
        # A ring of sockets that hold each other, many times over: the kernel's collector is to cope.
        for _ in range(2000):
            a, b = socket.socketpair()
            try:
                socket.send_fds(a, [b"x"], [a.fileno(), b.fileno()])
            except OSError:
                pass  # ETOOMANYREFS: it counts what is under way
            a.close(); b.close()
        print(json.dumps(same))
    """
    assert arena.ask(program) is True


def test_keys_of_the_host(arena: Arena) -> None:
    """The session keyring of whoever created the VM is not the VM's, and /proc/keys is covered."""
    assert arena.sh("cat /proc/keys /proc/key-users 2>/dev/null | wc -c") == "0\n"


def test_uids_that_two_vms_share(arena: Arena, neighbour: Arena) -> None:
    """As root each VM has a range of its own, so that not even a count of processes or of files is shared."""
    maps = [each.sh("cat /proc/self/uid_map /proc/self/gid_map") for each in (arena, neighbour)]
    assert os.geteuid() != 0 or maps[0] != maps[1]
    links = [each.sh("readlink /proc/self/ns/*").split() for each in (arena, neighbour)]
    host = [os.readlink(path) for path in sorted(pathlib.Path("/proc/self/ns").iterdir())]
    for mine, other, ours in zip(*links, host, strict=True):
        kind = mine.split(":")[0]
        assert kind in ("time", "time_for_children") or len({mine, other, ours}) == 3, kind


def test_everything_at_once_leaves_the_host_answering(arena: Arena, neighbour: Arena) -> None:
    """The neighbour still works, and so does the agent."""
    assert neighbour.sh("echo alive") == "alive\n"
    listed = [json.loads(line)["id"] for line in arena.agent.run("vm", "list", check=True).text.splitlines()]
    assert {arena.vm, neighbour.vm} <= set(listed)
