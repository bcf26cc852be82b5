# SPDX-License-Identifier: Apache-2.0
"""init and the leaders of runs: what runs outside of a command's reach in the same VM, and what crosses into a command."""

from __future__ import annotations

import json
import os
import pathlib
import textwrap

from tests.conftest import Agent, shim_of
from tests.security.conftest import Arena
from tests.security.test_clients_of_the_shim import EXIT, GO, HOLD, LIVE, SHELL, Client, frame, request, text

# Looks at every file of every process other than itself.
LOOK = """
import glob, json, os, sys
out = {}
for pid in [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]:
    comm = open(f"/proc/{pid}/comm").read().strip()
    for name in ("mem", "maps", "environ", "auxv", "exe", "cwd", "root", "fd", "fdinfo", "map_files", "ns/mnt", "ns/user",
                 "syscall", "stack", "personality", "pagemap", "io", "timers"):
        path = f"/proc/{pid}/{name}"
        try:
            if name in ("exe", "cwd", "root", "ns/mnt", "ns/user"):
                os.readlink(path)
                os.open(path, os.O_RDONLY)
            elif name in ("fd", "fdinfo", "map_files"):
                for entry in os.listdir(path):
                    os.open(f"{path}/{entry}", os.O_RDONLY | os.O_NONBLOCK)
            elif os.read(os.open(path, os.O_RDONLY), 1) == b"":
                continue
            out.setdefault(comm, []).append(name)
        except OSError:
            pass
print(json.dumps(out))
"""


def test_reading_init_and_the_leaders_by_proc(arena: Arena) -> None:
    """Memory, environment, program, what descriptors lead to, namespaces, root: neither is dumpable."""
    got = arena.ask(LOOK)
    assert got == {}, got


def test_writing_to_init_and_the_leaders_by_proc(arena: Arena) -> None:
    """Memory, names, limits, maps of ids, marks of any kind; but for what costs the guest its own VM at worst."""
    program = """
        import json, os
        out = []
        for pid in (1, os.getppid()):
            for name in os.listdir(f"/proc/{pid}"):
                try:
                    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
                    os.write(fd, b"1")
                    out.append(name)
                except OSError:
                    pass
        print(json.dumps(out))
    """
    got = arena.ask(program)
    harmless = {"autogroup", "timerslack_ns", "sched", "clear_refs", "coredump_filter", "oom_adj", "oom_score_adj"}
    assert isinstance(got, list) and set(got) <= harmless, got


def test_every_signal_to_init(arena: Arena) -> None:
    """The kernel delivers to PID 1 what it has a handler for, and it has none."""
    program = """
        import os, signal
        for signo in range(1, 65):
            if signo not in (32, 33):
                os.kill(1, signo)
                try:
                    signal.pidfd_send_signal(os.pidfd_open(1), signo)
                except OSError:
                    pass
        print(open("/proc/1/stat").read().split()[2] in "SR")
    """
    assert arena.python(program).text == "True\n"
    assert arena.sh("echo alive") == "alive\n"


def test_signals_to_everybody(arena: Arena) -> None:
    """kill -9 -1 ends what there is, and the VM goes on."""
    arena.run("/bin/sh", "-c", "kill -9 -1", check=False)
    assert arena.sh("cat /proc/1/comm") == "era-init\n"


def test_overwriting_the_program_of_init_or_of_a_worker(arena: Arena) -> None:
    """/proc/PID/exe of whatever runs while files are copied (CVE-2019-5736): nothing opens it for writing."""
    agent = arena.agent
    host = pathlib.Path(agent.program).with_name("era-init")
    before = host.read_bytes()
    program = """
        import os, sys
        print("go", flush=True)
        written = 0
        held = []
        while not os.path.exists("/tmp/stop-looking"):
            for pid in os.listdir("/proc"):
                try:
                    if not pid.isdigit() or not open(f"/proc/{pid}/comm").read().startswith("era-"):
                        continue
                    held.append(os.open(f"/proc/{pid}/exe", os.O_RDONLY))
                except OSError:
                    continue
                for path in (f"/proc/{pid}/exe", f"/proc/self/fd/{held[-1]}"):
                    try:
                        os.write(os.open(path, os.O_WRONLY), b"#!/bin/sh")
                        written += 1
                    except OSError:
                        pass
                os.close(held.pop())
        print(written)
    """
    looker = agent.start(
        *("vm", "exec", "--vm", arena.vm, "--", "python3", "-c", textwrap.dedent(program)), stdout=-1
    )
    assert looker.stdout is not None and looker.stdout.readline() == b"go\n"
    for _ in range(5):
        agent.run("vm", "cp", __file__, f"{arena.vm}:/tmp/copied.py", check=True)
        agent.run("vm", "exec", "--vm", arena.vm, "--cmd", "true", check=True)
    agent.sh(arena.vm, "touch /tmp/stop-looking")
    out, _ = looker.communicate(timeout=30)
    assert looker.returncode == 0 and out == b"0\n"
    assert host.read_bytes() == before


def test_running_the_program_of_init(arena: Arena) -> None:
    """No path leads to it: not /proc/1/exe, not a mount that is seen."""
    assert arena.run("/proc/1/exe", check=False).code == 126
    assert "era-init" not in arena.sh("cat /proc/self/mountinfo /proc/mounts")
    assert arena.sh("find / -xdev -name 'era-*' 2>/dev/null | wc -l") == "0\n"


def test_descriptors_that_a_command_finds(arena: Arena) -> None:
    """0, 1 and 2 and nothing else, by a program, by a shell, by a terminal, and while other runs are under way."""
    agent = arena.agent
    other = agent.start("vm", "exec", "--vm", arena.vm, "--cmd", "echo up; cat", stdin=-1, stdout=-1)
    assert other.stdout is not None and other.stdout.readline() == b"up\n"
    program = "import os; print(sorted(os.listdir('/proc/self/fd')), [os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in '012'])"
    expected = "['0', '1', '2', '3'] ['pipe', 'pipe', 'pipe']\n"  # 3 is the directory that is read
    assert arena.run("python3", "-c", program).text == expected
    result = agent.run("vm", "run", "--vm", arena.vm, "--cmd", f'python3 -c "{program}"', check=True).json()
    assert pathlib.Path(result["stdout"]).read_text() == expected.replace("['pipe'", "['/dev/null'")
    other.communicate(b"", timeout=30)


def test_descriptors_of_init_and_of_the_shim(arena: Arena) -> None:
    """Seen from the host: init holds its socket, its clock and its /proc; the shim nothing of a file system but the VM's folder."""
    agent = arena.agent
    shim = shim_of(agent, arena.vm)
    children = pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    kinds = {}
    for pid in (*children, str(shim)):
        links = [os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        kinds[pid] = sorted({link.split(":")[0] if not link.startswith("/") else link for link in links})
    folder = f"{agent.state}/vms/{arena.vm}"
    assert kinds[children[0]] == ["/dev/null", "/proc", "anon_inode", "socket"]
    outside = [name for name in kinds[str(shim)] if name.startswith("/") and not name.startswith(folder)]
    image = f"{agent.state}/images/agent%2Fpython%3A3.11/image.json"
    assert set(outside) <= {"/dev/null", image}, outside


def test_environment_and_folder_that_a_command_finds(agent: Agent, arena: Arena) -> None:
    """What the image and the caller gave, and nothing of the host."""
    program = "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), os.umask(0)]))"
    result = agent.run(
        *("vm", "exec", "--vm", arena.vm, "--env", "MINE=1", "--", "python3", "-c", program),
        env={"SECRET_OF_HOST": "x", "AGENT_API_KEY": "secret", "LD_LIBRARY_PATH": "/host", "XDG_RUNTIME_DIR": "/run/user/0"},
        check=True,
    )
    environment, folder, leads, umask = json.loads(result.text)
    of_image = {name for name in environment if name.startswith("PIP_")}
    assert set(environment) - of_image <= {"PATH", "HOME", "USER", "LANG", "MINE", "LC_CTYPE"}, environment
    assert (folder, leads, umask) == ("/workspace", True, 0o022)


def test_a_working_folder_outside(arena: Arena) -> None:
    """/proc/self/fd/7 and its like (CVE-2024-21626): a folder of the host that somebody left open."""
    agent = arena.agent
    folders = [f"/proc/self/fd/{n}" for n in range(3, 12)]
    folders += ["/proc/1/cwd", "/proc/1/root", "/proc/self/cwd", "/proc/self/root", "/proc/thread-self/fd/7/../../.."]
    for folder in folders:
        result = agent.run("vm", "exec", "--vm", arena.vm, "--workdir", folder, "--", "/bin/ls", "-a", "/proc/self/cwd/")
        assert result.code == 126 or b"workspace" in result.stdout, (folder, result)
        assert b"state.db" not in result.stdout and b"vm.sock" not in result.stdout


# Writes "ended, with status 0" to whatever is a descriptor of a process that waits to become a command. It is one of
# three by the name of era-run: it, its leader, and ours. Says what took it, when that has not stopped after a while.
FORGE = """
import json, os, struct, time
forged = struct.pack("<iiQQ192s", 3, 0, 1, 1, b"")
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit() and open(f"/proc/{pid}/comm").read() == "era-run\\n"]
    taken = []
    for path in [f"/proc/{pid}/fd/{number}" for pid in pids for number in range(3, 12)] + [f"/proc/{p}/mem" for p in pids]:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            taken.append(path)
            if "fd" in path:
                os.write(fd, forged)
            os.close(fd)
        except OSError:
            pass
    if len(pids) >= 3 and not taken:
        break
print(json.dumps([len(pids), taken]))
"""


def test_forging_the_report_of_a_run(arena: Arena) -> None:
    """A command reaches for the pipe by which another run, made ready and held, will say how it ended."""
    with Client(arena.agent, arena.vm) as client:
        client.say(request(b"exit 7", run=b"r4711", flags=SHELL | LIVE | HOLD))
        assert arena.ask(FORGE) == [3, []]
        client.say(frame(GO, text(b"r4711")))
        answer = client.answer()
        assert answer is not None and answer[0] == EXIT and answer[1][1] == 7


def test_core_dumps(arena: Arena) -> None:
    """No core of a command lands anywhere, and no handler of the host's is started for it."""
    agent = arena.agent
    result = agent.run("vm", "run", "--vm", arena.vm, "--cmd", "ulimit -c unlimited; ulimit -c; cd /tmp; kill -SEGV $$")
    assert result.json()["verdict"] == "signaled"
    assert pathlib.Path(result.json()["stdout"]).read_text() == "0\n"
    assert arena.sh("ls /tmp | grep -c core", check=False) == "0\n"


def test_a_terminal_of_the_host(arena: Arena) -> None:
    """A command without a terminal finds none to take, and with one only its own."""
    program = """
        import fcntl, os, termios
        try:
            os.open("/dev/tty", os.O_RDWR)
            print("has one")
        except OSError as error:
            print(error.errno)
        for name in ("console", "tty0", "tty1", "ttyS0", "vcs", "hvc0"):
            print(os.path.exists(f"/dev/{name}"), end=" ")
        print(os.listdir("/dev/pts"))
    """
    assert arena.python(program).text == "6\n" + "False " * 6 + "['ptmx']\n"
