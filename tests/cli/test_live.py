# SPDX-License-Identifier: Apache-2.0
"""exec, shell and logs --follow: our own stdin, stdout, stderr, signals and terminal."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

from tests.conftest import Agent, eventually


def test_bytes_go_in_and_out_unchanged(agent: Agent, vm: str) -> None:
    """Five megabytes of noise, both ways at once."""
    noise = os.urandom(5 << 20)
    result = agent.run("vm", "exec", "--vm", vm, "--cmd", "tee /tmp/copy; sha256sum /tmp/copy >&2", input=noise, check=True)
    assert result.stdout == noise
    assert result.stderr.split()[0].decode() == hashlib.sha256(noise).hexdigest()


def test_argv_meets_no_shell(agent: Agent, vm: str) -> None:
    """Words arrive as they are."""
    result = agent.run("vm", "exec", "--vm", vm, "--", "printf", "%s|", "a b", "$HOME", "*", check=True)
    assert result.text == "a b|$HOME|*|"


def test_a_command_that_is_not_there(agent: Agent, vm: str) -> None:
    """127, as a shell says, with the reason on stderr."""
    result = agent.run("vm", "exec", "--vm", vm, "--", "no-such-program")
    assert result.code == 127 and b"no-such-program" in result.stderr


def test_several_vms_side_by_side(agent: Agent, vm: str, node_vm: str) -> None:
    """Each line says whose it is, and the worst status is ours."""
    result = agent.run("vm", "exec", "--vm", vm, "--vm", node_vm, "--cmd", "echo one; echo two; exit 4")
    assert result.code == 4
    assert sorted(result.text.splitlines()) == sorted(f"{v} | {w}" for v in (vm, node_vm) for w in ("one", "two"))


def test_an_interrupt_reaches_the_command(agent: Agent, vm: str) -> None:
    """The guest traps it and says good bye."""
    script = "trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", script, stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.read() == b"bye\n"
    assert run.wait(30) == 5


def test_a_second_interrupt_kills(agent: Agent, vm: str) -> None:
    """Also what ignores the first."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done",
                      stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == b"no\n"
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 137


def test_a_reader_that_goes_away_ends_the_command(agent: Agent, vm: str) -> None:
    """Like any command before `head`."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "yes", stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"y\n"
    run.stdout.close()
    assert run.wait(30) == 141


def test_a_slow_reader_costs_no_memory(agent: Agent, vm: str) -> None:
    """100 MB wait in the guest, not in us."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "head -c 100000000 /dev/zero", stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.read(1)
    with open(f"/proc/{run.pid}/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    limit = 400 << 10 if os.environ.get("AGENT_SANITIZED") else 32 << 10
    assert peak < limit
    assert len(run.stdout.read()) == 99999999
    assert run.wait(30) == 0


def test_follow_ends_with_the_run(agent: Agent, vm: str) -> None:
    """Everything that it wrote, as it writes it."""
    run = agent.start("vm", "run", "--vm", vm, "--cmd", "echo first; until [ -e /tmp/go ]; do sleep 0.05; done; echo last",
                      stdout=subprocess.DEVNULL)
    eventually(lambda: agent.status(vm) == "running")
    follow = agent.start("vm", "logs", "--vm", vm, "--follow", stdout=subprocess.PIPE)
    assert follow.stdout is not None and follow.stdout.readline() == b"first\n"
    agent.sh(vm, "touch /tmp/go")
    # The newest run is the touch; ours is followed by the descriptor that is open.
    assert run.wait(30) == 0
    follow.kill()
    follow.wait()


def test_temp_is_cleaned_also_when_it_is_interrupted(agent: Agent) -> None:
    """SIGINT and SIGTERM end the command, then the VM goes."""
    for signo, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        run = agent.start("vm", "temp", "--language", "python", "--cmd", "echo ready; sleep 1000", stdout=subprocess.PIPE)
        assert run.stdout is not None and run.stdout.readline() == b"ready\n"
        run.send_signal(signo)
        assert run.wait(30) == code
        assert agent.run("vm", "list", "--all", "-q", check=True).text == ""


class Terminal:
    """A command on a pseudo terminal of ours."""

    def __init__(self, agent: Agent, *args: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [agent.program, *args], stdin=slave, stdout=slave, stderr=slave, env={**agent.env, "TERM": "xterm"},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 20) -> None:
        """Waits until the screen shows it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, (text, self.seen)
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen.split(text.encode(), 1)[1]

    def resize(self, rows: int, cols: int) -> None:
        """A person drags the corner of the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def close(self) -> None:
        """The window is gone."""
        os.close(self.master)
        os.close(self.slave)


def test_a_shell_is_a_terminal(agent: Agent, vm: str) -> None:
    """Window size, raw keys, Ctrl-C into the guest, exit status, and our terminal as it was."""
    terminal = Terminal(agent, "vm", "shell", "--vm", vm)
    terminal.type("stty size; tty\n")
    terminal.expect("33 99")
    terminal.expect("/dev/pts/")
    raw = termios.tcgetattr(terminal.slave)
    assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    terminal.resize(40, 120)
    terminal.type("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo resi''zed\n")
    terminal.expect("resized")
    terminal.type("sleep 1000; echo not''yet\n")
    eventually(lambda: "sleep" in agent.sh(vm, "cat /proc/[0-9]*/comm").text)
    terminal.type("\x03")
    terminal.type("echo still''here\n")
    terminal.expect("stillhere")
    terminal.type("exit 7\n")
    assert terminal.process.wait(30) == 7
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.close()


def test_a_terminal_that_vanishes_takes_its_shell_along(agent: Agent, vm: str) -> None:
    """kill -9 of the command line leaves no process in the VM."""
    terminal = Terminal(agent, "vm", "shell", "--vm", vm)
    terminal.type("echo re''ady; sleep 4321\n")
    terminal.expect("ready")
    terminal.process.kill()
    terminal.process.wait()
    eventually(lambda: "4321" not in agent.sh(vm, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").text)
    terminal.close()
