# SPDX-License-Identifier: Apache-2.0
"""A run that is held: made ready in the guest while its client records it, and started by GO alone."""

from __future__ import annotations

import contextlib
import pathlib
import re
import socket
import struct
import time

import pytest

from tests.conftest import Agent, eventually

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHELL, LOG, HOLD = 1 << 0, 1 << 4, 1 << 6


def frame_types() -> dict[str, int]:
    """Names and numbers, from the header that is their contract."""
    text = (ROOT / "src" / "wire" / "frame.h").read_text().split("enum era_frame_type {")[1].split("};")[0]
    return {name: number for number, name in enumerate(re.findall(r"^ +ERA_FRAME_(\w+)", text, re.M), 1)}


TYPE = frame_types()


def text_field(text: str) -> bytes:
    """A string of the wire: its length, its bytes, a NUL."""
    return struct.pack("<I", len(text)) + text.encode() + b"\0"


class Client:
    """Speaks to a VM's shim as libera does, but with any words."""

    def __init__(self, agent: Agent, vm: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(agent.state / "vms" / vm / "vm.sock"))

    def send(self, name: str, payload: bytes = b"") -> None:
        """One frame, to who may have hung up."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(struct.pack("<IHHI", len(payload), TYPE[name], 0, 0) + payload)

    def run(self, command: str, flags: int = SHELL | LOG | HOLD) -> None:
        """Asks for a command line to be run."""
        fixed = struct.pack("<BIIQHH", 0, flags, 0, 1 << 20, 0, 0)
        self.send("RUN", text_field("r1") + fixed + text_field("/workspace") + struct.pack("<I", 1) + text_field(command)
                  + struct.pack("<I", 0))

    def go(self, run: str | None = None) -> None:
        """Lets it start."""
        self.send("GO", text_field(run or f"r{time.time_ns()}"))

    def until(self, name: str) -> bool:
        """Whether such a frame comes before the connection ends."""
        with self.socket.makefile("rb") as stream, contextlib.suppress(ConnectionResetError):
            while len(header := stream.read(12)) == 12:
                length, number, _, _ = struct.unpack("<IHHI", header)
                stream.read(length)
                if number == TYPE[name]:
                    return True
        return False


def no_run_is_left(agent: Agent, vm: str) -> None:
    """Nothing in the guest but its init, and what looks at it."""
    def alone() -> bool:
        names = agent.sh(vm, "cat /proc/[0-9]*/comm 2>/dev/null; true").text.split()
        return names.count("era-run") == 1
    eventually(alone)


def test_a_held_run_starts_with_go_and_not_before(agent: Agent, vm: str) -> None:
    """Its logs carry the name that GO brought."""
    client = Client(agent, vm)
    client.run("touch /started; echo here")
    assert agent.sh(vm, "ls /started", check=False).code != 0
    run = f"r{time.time_ns()}"
    client.go(run)
    assert client.until("EXIT")
    assert agent.sh(vm, "ls /started").text == "/started\n"
    assert (agent.state / "vms" / vm / "out" / "runs" / run / "stdout.log").read_text() == "here\n"


def test_a_held_run_whose_client_goes_away_never_starts(agent: Agent, vm: str) -> None:
    """It is no run: nothing was done, and nothing of it stays."""
    for _ in range(20):
        client = Client(agent, vm)
        client.run("touch /started")
        client.socket.close()
    no_run_is_left(agent, vm)
    assert agent.sh(vm, "ls /started", check=False).code != 0
    assert agent.status(vm) == "ready"


@pytest.mark.parametrize("words", ["go", "go go", "held: bad id", "held: go go", "not held: go"])
def test_go_out_of_turn_ends_the_connection(agent: Agent, vm: str, words: str) -> None:
    """And no more than that: the VM goes on."""
    client = Client(agent, vm)
    if words.startswith("held"):
        client.run("sleep 1000")
    elif words.startswith("not held"):
        client.run("sleep 1000", SHELL)
    if words.endswith("bad id"):
        client.go("../../x")
    for _ in range(words.count("go")):
        client.go()
    assert not client.until("EXIT")
    assert agent.sh(vm, "echo fine").text == "fine\n"
