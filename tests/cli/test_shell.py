# SPDX-License-Identifier: Apache-2.0
"""shell: a terminal of ours becomes one of the VM's, and is ours again afterwards."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, eventually


class Terminal:
    """A command on a pseudo terminal of ours."""

    def __init__(self, agent: Agent, *args: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = agent.start(
            *args, stdin=slave, stdout=slave, stderr=slave, env={**agent.env, "TERM": "xterm"},
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

    def read_end(self) -> None:
        """Takes what is on the screen, so that nobody waits for us to."""
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)

    def close(self) -> None:
        """The window is gone."""
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def open_terminal(agent: Agent) -> Iterator[Callable[..., Terminal]]:
    """Starts commands on terminals, and closes those in the end."""
    opened: list[Terminal] = []

    def start(*args: str) -> Terminal:
        opened.append(Terminal(agent, *args))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


def commands_of(agent: Agent, vm: str) -> str:
    """The command lines of all processes in a VM."""
    return agent.sh(vm, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").text


def test_a_shell_is_a_terminal(agent: Agent, vm: str, open_terminal: Callable[..., Terminal]) -> None:
    """Window size, raw keys, Ctrl-C into the guest, exit status, and our terminal as it was."""
    terminal = open_terminal("vm", "shell", "--vm", vm)
    terminal.type("stty size; tty; echo $TERM\n")
    terminal.expect("33 99")
    terminal.expect("/dev/pts/")
    terminal.expect("xterm")
    raw = termios.tcgetattr(terminal.slave)
    assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    terminal.resize(40, 120)
    terminal.type("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo resi''zed\n")
    terminal.expect("resized")
    terminal.type("sleep 1000; echo not''yet\n")
    eventually(lambda: "sleep 1000" in commands_of(agent, vm))
    terminal.type("\x03")
    terminal.type("echo still''here\n")
    terminal.expect("stillhere")
    terminal.type("exit 7\n")
    assert terminal.process.wait(30) == 7
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137)])
def test_the_exit_status_of_a_shell(
    vm: str, open_terminal: Callable[..., Terminal], command: str, code: int
) -> None:
    """Its own, and 128+N; the terminal is restored either way."""
    terminal = open_terminal("vm", "shell", "--vm", vm, "--cmd", f"echo begun; {command}")
    terminal.expect("begun")
    assert terminal.process.wait(30) == code
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_keys_that_mean_something(vm: str, open_terminal: Callable[..., Terminal]) -> None:
    """Ctrl-D ends the input, Ctrl-Z and Ctrl-\\ are the guest's, and no key is lost on the way."""
    terminal = open_terminal("vm", "shell", "--vm", vm, "--cmd", "stty raw -echo; echo re''ady; head -c 256 | sha256sum")
    terminal.expect("ready")
    every = bytes(range(256))
    os.write(terminal.master, every)
    terminal.expect(hashlib.sha256(every).hexdigest())
    assert terminal.process.wait(30) == 0
    terminal = open_terminal("vm", "shell", "--vm", vm, "--cmd", "echo re''ady; cat; echo e''nd; exit 3")
    terminal.expect("ready")
    terminal.type("\x04")
    terminal.expect("end")
    assert terminal.process.wait(30) == 3


def test_what_a_shell_paints_is_not_kept(agent: Agent, vm: str, open_terminal: Callable[..., Terminal]) -> None:
    """Passwords are typed there: no log, no run on record."""
    terminal = open_terminal("vm", "shell", "--vm", vm, "--cmd", "echo pain''ted")
    terminal.expect("painted")
    assert terminal.process.wait(30) == 0
    assert agent.run("vm", "logs", "--vm", vm).error()["code"] == "run_not_found"


def test_an_error_leaves_the_terminal_alone(open_terminal: Callable[..., Terminal]) -> None:
    """One object, and 125."""
    terminal = open_terminal("vm", "shell", "--vm", "python-1")
    assert terminal.process.wait(30) == 125
    terminal.read_end()
    line = terminal.seen.decode().replace("\x1b[K", "").strip()
    assert json.loads(line)["code"] == "vm_not_found"
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_a_shell_without_a_terminal(agent: Agent, vm: str) -> None:
    """Keys may come from a pipe."""
    result = agent.run("vm", "shell", "--vm", vm, input=b"echo a''b\nexit 4\n")
    assert result.code == 4 and b"ab" in result.stdout


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGHUP])
def test_a_terminal_that_vanishes_takes_its_shell_along(
    agent: Agent, vm: str, open_terminal: Callable[..., Terminal], signo: signal.Signals
) -> None:
    """However the command line ends, no process is left in the VM; not even one that ignores it."""
    terminal = open_terminal("vm", "shell", "--vm", vm)
    terminal.type("trap '' HUP TERM; setsid sleep 4322 & echo re''ady; sleep 4321\n")
    terminal.expect("ready")
    eventually(lambda: "4321" in commands_of(agent, vm))
    terminal.process.send_signal(signo)
    terminal.process.wait(30)
    eventually(lambda: "sleep" not in commands_of(agent, vm))
    if signo != signal.SIGKILL:
        assert termios.tcgetattr(terminal.slave) == terminal.before
    eventually(lambda: agent.status(vm) == "ready")


def test_a_window_that_is_closed_takes_its_shell_along(agent: Agent, vm: str) -> None:
    """The kernel tells it by SIGHUP, or by the end of the terminal."""
    terminal = Terminal(agent, "vm", "shell", "--vm", vm)
    terminal.type("echo re''ady; sleep 4321\n")
    terminal.expect("ready")
    eventually(lambda: "4321" in commands_of(agent, vm))
    terminal.close()
    assert terminal.process.wait(30) != 0
    eventually(lambda: "4321" not in commands_of(agent, vm))
