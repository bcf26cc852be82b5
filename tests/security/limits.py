# SPDX-License-Identifier: Apache-2.0
"""What the tests of limits share: a witness that host and neighbours go on, and the kernel's own figures."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.conftest import EMULATED, Agent, groups_of, shim_of

PROGRAMS = pathlib.Path(__file__).parent / "programs"
ANSWER_SECONDS = 60 if EMULATED else 15  # for what takes milliseconds: the machine that runs tests may be a small and busy one
PROGRAM_SECONDS = 300 if EMULATED else 60  # for what ends by itself
SHIM_MEMORY_KIB = 8 << 10  # what the keeper of a VM may use at its peak, whatever the guest does
EVERYTHING = bool(os.environ.get("AGENT_TEST_ALL"))  # script/test --all: full sizes and long lists


def sample(cases: Sequence[Any], step: int) -> Sequence[Any]:
    """All of them; under emulation every `step`-th, where it is not they that differ but the kernel below."""
    return cases[::step] if EMULATED else cases


class Witness:
    """Asks a second VM and the host again and again while a test does its worst in another VM."""

    def __init__(self, agent: Agent, vm: str, folder: pathlib.Path) -> None:
        self.agent, self.vm, self.folder = agent, vm, folder
        self.answers = 0
        self.slowest = 0.0
        self.failure: str | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _ask(self) -> None:
        word = f"answer {self.answers}"
        result = self.agent.run("vm", "exec", "--vm", self.vm, "--", "echo", word, timeout=ANSWER_SECONDS)
        assert (result.code, result.text, result.stderr) == (0, word + "\n", b""), result
        (self.folder / "word").write_text(word)
        host = subprocess.run(["cat", self.folder / "word"], capture_output=True, text=True, timeout=ANSWER_SECONDS)
        assert host.stdout == word, host

    def _watch(self) -> None:
        while self.failure is None:
            started = time.monotonic()
            try:
                self._ask()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                self.failure = repr(error)
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - started)
            if self.over.wait(0.1):
                return

    def finish(self) -> None:
        """Ends the questions; every one must have been answered."""
        self.over.set()
        self.thread.join()
        assert self.failure is None, self.failure
        assert self.answers > 0


@pytest.fixture(scope="module")
def second_vm(agent: Agent) -> Iterator[str]:
    """The neighbour that must not notice anything."""
    created = agent.create("--mem", "64")
    yield created
    agent.clean(created)


@pytest.fixture
def witness(agent: Agent, second_vm: str, tmp_path: pathlib.Path) -> Iterator[Witness]:
    """Host and neighbour are asked for as long as the test runs."""
    watcher = Witness(agent, second_vm, tmp_path)
    watcher.thread.start()
    try:
        yield watcher
    finally:
        watcher.finish()


def run_program(agent: Agent, vm: str, name: str, *words: str, timeout: int = PROGRAM_SECONDS, **kwargs: Any) -> dict[str, Any]:
    """Runs one of programs/ in a VM as a recorded run, and returns its result."""
    command = " ".join(["exec python3 -", *words])
    source = (PROGRAMS / name).read_bytes()
    limit = ("--timeout", str(timeout))
    kwargs.setdefault("timeout", timeout + 60)
    return agent.run("vm", "run", "--vm", vm, *limit, "--stdin", "--cmd", command, input=source, **kwargs).json()


def output_of(result: dict[str, Any]) -> str:
    """What a recorded run wrote to its stdout."""
    return pathlib.Path(result["stdout"]).read_text(errors="replace")


def assert_usable(agent: Agent, vm: str) -> None:
    """A new command is run as if nothing had been."""
    assert agent.sh(vm, "echo alive").text == "alive\n"


def group_file(vm: str, *names: str) -> int | None:
    """The first number in the first of these files that a control group of the VM has."""
    for group in groups_of(vm):
        for name in names:
            if (group / name).exists():
                return int((group / name).read_text().split()[0])
    return None


def pages_read_again(vm: str) -> int:
    """How many pages of files the VM's memory had no room to keep until they were wanted again."""
    for group in groups_of(vm):
        if (group / "memory.stat").exists():
            return int(dict(line.split() for line in (group / "memory.stat").open())["workingset_refault_file"])
    raise AssertionError("the VM has no memory group")


def peak_memory(vm: str) -> int:
    """The most that the VM ever used, by the kernel's own count."""
    peak = group_file(vm, "memory.max_usage_in_bytes", "memory.peak", "memory.current")
    assert peak is not None, "the VM has no memory group"
    return peak


def shim_peak_kib(agent: Agent, vm: str) -> int:
    """The most that the VM's keeper ever used, which is not counted in the VM."""
    status = pathlib.Path(f"/proc/{shim_of(agent, vm)}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def assert_memory_bounded(agent: Agent, vm: str, mem_mib: int) -> None:
    """The VM stayed within its limit, and its keeper small."""
    assert peak_memory(vm) <= (mem_mib + 1) << 20  # v2 lets the kernel itself go over for a moment
    assert shim_peak_kib(agent, vm) <= SHIM_MEMORY_KIB


def alive_in(vm: str) -> list[str]:
    """The names of the living processes of a VM other than its init, seen from the host."""
    pids = {pid for group in groups_of(vm) for pid in (group / "cgroup.procs").read_text().split()}
    names = []
    for pid in sorted(pids):
        try:
            name, rest = pathlib.Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(") ", 1)
        except (OSError, ValueError):
            continue
        state, threads = rest.split()[0], int(rest.split()[17])
        if (state not in "ZX" or threads > 1) and name != "era-init":
            names.append(name)
    return names
