# SPDX-License-Identifier: Apache-2.0
"""What a program of the same user may say on vm.sock: others' runs must go on, and the shim must stay small."""

from __future__ import annotations

import os
import pathlib
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually, shim_of

RUN, GO, STDIN, RESIZE, SIGNAL, STDOUT, EXIT, WINDOW, ERROR, STOP = 5, 6, 7, 9, 10, 13, 16, 17, 18, 19
SHELL, WITH_STDIN, LIVE, LOG, HOLD = 1 << 0, 1 << 2, 1 << 3, 1 << 4, 1 << 6


def frame(kind: int, payload: bytes = b"", stream: int = 0) -> bytes:
    """As src/wire/frame.h has it."""
    return struct.pack("<IHHI", len(payload), kind, 0, stream) + payload


def text(value: bytes) -> bytes:
    """A string of src/wire/field.h."""
    return struct.pack("<I", len(value)) + value + b"\0"


def request(
    command: bytes = b"true",
    run: bytes = b"r1",
    flags: int = SHELL | LIVE,
    timeout_ms: int = 60_000,
    cap: int = 1 << 20,
    workdir: bytes = b"/",
) -> bytes:
    """A RUN frame."""
    numbers = struct.pack("<BIIQHH", 0, flags, timeout_ms, cap, 80, 24)
    return frame(RUN, text(run) + numbers + text(workdir) + struct.pack("<I", 1) + text(command) + struct.pack("<I", 0))


class Client:
    """A connection to the shim of a VM."""

    def __init__(self, agent: Agent, vm: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        folder = os.open(agent.state / "vms" / vm, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{folder}/vm.sock")
        finally:
            os.close(folder)
        self.socket.settimeout(20)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer when the shim hangs up."""
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data

    def answer(self) -> tuple[int, bytes] | None:
        """The next frame; None when the shim hung up."""
        try:
            head = self.read(12)
            if len(head) < 12:
                return None
            size, kind = struct.unpack("<IH6x", head)
            return kind, self.read(size)
        except ConnectionResetError:
            return None

    def say(self, data: bytes) -> Client:
        """Sends what the shim will still take."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self


@pytest.fixture(scope="module")
def vm(agent: Agent) -> Iterator[str]:
    """One VM for all of them; at the end its shim is the one that it was."""
    created = agent.create()
    shim = shim_of(agent, created)
    try:
        yield created
        assert shim_of(agent, created) == shim
        assert agent.sh(created, "echo alive").text == "alive\n"
    finally:
        agent.clean(created)


@pytest.fixture
def bystander(agent: Agent, vm: str) -> Iterator[None]:
    """Somebody else's run, which is under way meanwhile and comes to its end."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None
    run.stdin.write(b"before\n")
    run.stdin.flush()
    assert run.stdout.readline() == b"before\n"
    yield
    out, _ = run.communicate(b"after\n", timeout=30)
    assert (run.returncode, out) == (0, b"after\n")


RUBBISH = {
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length of 4 GiB": struct.pack("<IHHI", 0xFFFFFFFF, RUN, 0, 0),
    "a length beyond the limit": struct.pack("<IHHI", 256 * 1024 + 1, RUN, 0, 0),
    "a type that is none": frame(999),
    "a stream that is none": frame(STOP, struct.pack("<I", 0), stream=7),
    "a frame of the guest's": frame(STDOUT, b"x"),
    "an end of the shim's": frame(EXIT, bytes(42)),
    "input without a run": frame(STDIN, b"x"),
    "GO without a run": frame(GO, text(b"r1")),
    "a stop cut short": frame(STOP, b"\0\0"),
    "a stop with a grace of weeks": frame(STOP, struct.pack("<I", 0xFFFFFFFF)),
    "two runs": request(flags=SHELL | HOLD) + request(flags=SHELL | HOLD),
    # a window, what the pipe takes of it and gives room for, and more
    "input beyond the window": request(b"sleep 3", flags=SHELL | WITH_STDIN) + frame(STDIN, bytes(32768)) * 16,
    "input that was not announced": request(b"sleep 3", flags=SHELL) + frame(STDIN, b"x"),
    "empty input": request(b"sleep 3", flags=SHELL | WITH_STDIN) + frame(STDIN),
    "signal 0": request(b"sleep 3", flags=SHELL) + frame(SIGNAL, struct.pack("<I", 0)),
    "signal 64": request(b"sleep 3", flags=SHELL) + frame(SIGNAL, struct.pack("<I", 64)),
    "room for what was not sent": request(b"sleep 3") + frame(WINDOW, struct.pack("<BI", 1, 1)),
    "room for nothing": request(b"sleep 3") + frame(WINDOW, struct.pack("<BI", 1, 0)),
    "room for input": request(b"sleep 3") + frame(WINDOW, struct.pack("<BI", 0, 1)),
    "GO for a run that goes": request(b"sleep 3", flags=SHELL) + frame(GO, text(b"r1")),
    "GO with a name that leads out": request(flags=SHELL | HOLD) + frame(GO, text(b"../../../x")),
    "GO with a name cut short": request(flags=SHELL | HOLD) + frame(GO, struct.pack("<I", 100) + b"r1"),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_saying(agent: Agent, vm: str, bystander: None, what: str) -> None:
    """The shim hangs up on who says what makes no sense, and on nobody else."""
    with Client(agent, vm) as client:
        client.say(RUBBISH[what])
        while client.answer() is not None:
            pass


REQUESTS = {
    "an id with a slash": request(run=b"r1/../../x"),
    "an id with a newline": request(run=b"r1\n"),
    "an empty id": request(run=b""),
    "an id with a byte of 0": request(run=b"r1\0x"),
    "an id of thousands of bytes": request(run=b"r" + b"1" * 5000),
    "an id of bytes that are no UTF-8": request(run=b"r\xff\xfe"),
    "a timeout of weeks": request(timeout_ms=0xFFFFFFFF),
    "a cap of everything": request(cap=0xFFFFFFFFFFFFFFFF, flags=SHELL | LOG),
    "flags that are none": request(flags=0xFFFFFFFF),
    "a folder that is relative": request(workdir=b"x"),
    "no command": frame(RUN, text(b"r1") + struct.pack("<BIIQHH", 0, 1, 0, 0, 0, 0) + text(b"/") + bytes(8)),
    "a count of four billion words": frame(
        RUN, text(b"r1") + struct.pack("<BIIQHH", 0, 1, 0, 0, 0, 0) + text(b"/") + b"\xff" * 4
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_asking_for_a_run_with(agent: Agent, vm: str, bystander: None, what: str) -> None:
    """Refused by name; nothing is made of it on the host."""
    runs = agent.state / "vms" / vm / "out" / "runs"
    before = set(runs.iterdir())
    with Client(agent, vm) as client:
        answer = client.say(REQUESTS[what]).answer()
        assert answer is not None and answer[0] == ERROR and b"bad_request" in answer[1]
    assert set(runs.iterdir()) == before


@pytest.mark.parametrize("cap", [0, 1, 2, 3])
def test_a_log_that_may_hold_next_to_nothing(agent: Agent, vm: str, bystander: None, cap: int) -> None:
    """Head and tail of a log of no bytes, or one: the shim does not divide by them."""
    run = f"r{cap + 1}"
    with Client(agent, vm) as client:
        client.say(request(b"echo 123456789", run=run.encode(), cap=cap, flags=SHELL | LOG))
        answer = client.answer()
        assert answer is not None and answer[0] == EXIT
        assert struct.unpack_from("<BBQQQQQ", answer[1])[5] == 10 - cap
    log = agent.state / "vms" / vm / "out" / "runs" / run / "stdout.log"
    kept = log.read_bytes().split(f"\n[… {10 - cap} bytes left out …]\n".encode())
    assert b"".join(kept) == b"123456789\n"[: cap - cap // 2] + b"123456789\n"[10 - cap // 2 :]


def test_a_name_that_another_run_has(agent: Agent, vm: str) -> None:
    """The logs of the first one stay as they are."""
    with Client(agent, vm) as client:
        client.say(request(b"echo first", run=b"r77", flags=SHELL | LOG))
        assert (answer := client.answer()) is not None and answer[0] == EXIT
    with Client(agent, vm) as client:
        client.say(request(b"echo second", run=b"r77", flags=SHELL | LOG))
        assert (answer := client.answer()) is not None and answer[0] == ERROR
    assert (agent.state / "vms" / vm / "out" / "runs" / "r77" / "stdout.log").read_bytes() == b"first\n"


def memory_kib(pid: int) -> int:
    """The most that a process has held."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def test_many_words_for_a_guest_that_is_stopped(agent: Agent, vm: str, bystander: None) -> None:
    """Signals and sizes by the hundred thousand are passed on as fast as they are taken, and pile up nowhere."""
    shim = shim_of(agent, vm)
    words = (frame(SIGNAL, struct.pack("<I", 18)) + frame(RESIZE, bytes(4))) * 1000
    with Client(agent, vm) as client:
        client.say(request(b"cat", flags=SHELL | WITH_STDIN))
        for _ in range(200):
            client.say(words)
    assert memory_kib(shim) < 16 * 1024


def test_more_connections_than_there_is_room_for(agent: Agent, vm: str, bystander: None) -> None:
    """Those that say nothing give way: who has something to say is heard, and the shim does not spin."""
    shim = shim_of(agent, vm)

    def cpu_ticks() -> int:
        fields = pathlib.Path(f"/proc/{shim}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    idle: list[Client] = []
    try:
        for _ in range(700):
            idle.append(Client(agent, vm))
        assert agent.sh(vm, "echo heard").text == "heard\n"
        before = cpu_ticks()
        assert agent.sh(vm, "sleep 0.3; echo heard").text == "heard\n"
        assert cpu_ticks() - before < 15, "a shim that waits uses no CPU"
        eventually(lambda: len(os.listdir(f"/proc/{shim}/fd")) < 300)
    finally:
        for client in idle:
            client.socket.close()


def test_a_shim_that_was_taken_over(agent: Agent, vm: str) -> None:
    """What it may do then: signal, without new privileges, past a filter; see src/launcher/namespace/seccomp_test.c."""
    status = pathlib.Path(f"/proc/{shim_of(agent, vm)}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    kill = 1 << 5 if os.geteuid() == 0 else 0  # CAP_KILL, for root's guests are of another uid
    masks = {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
    assert masks == {"CapEff": kill, "CapPrm": kill, "CapInh": 0, "CapAmb": 0}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_the_socket_by_another_user(agent: Agent, vm: str) -> None:
    """Who is neither the same user nor root is not let in, and reads nothing of the folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    program = "import os,sys; os.setgid(65534); os.setuid(65534); import socket; socket.socket(1).connect(sys.argv[1])"
    path = str(agent.state / "vms" / vm / "vm.sock")
    done = subprocess.run(["/usr/bin/python3", "-c", program, path], capture_output=True)
    assert done.returncode == 1 and b"PermissionError" in done.stderr
    assert (agent.state.stat().st_mode & 0o777, os.stat(path).st_mode & 0o777) == (0o700, 0o600)
