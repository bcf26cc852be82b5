# SPDX-License-Identifier: Apache-2.0
"""What there is to see of a VM with a kernel of its own."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator

from tests.conftest import Agent, shim_of

ANSWERS = "import sys, time\nfor line in sys.stdin: print(time.time_ns(), flush=True)"
QUESTIONS = 50
BOUND_NS = 10_000_000


def qemu_of(agent: Agent, vm: str) -> int:
    """The process id of a VM's QEMU: the shim's child of that name."""
    shim = shim_of(agent, vm)
    for child in pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split():
        if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("qemu"):
            return int(child)
    raise AssertionError("there is no QEMU")


def wall_clock_ahead() -> int:
    """How far the host's wall clock is ahead of its monotonic one, in ns: another figure when somebody has set it."""
    return time.time_ns() - time.monotonic_ns()


def may_set_clock() -> bool:
    """Whether the host's wall clock can be set: to what it is, which changes nothing."""
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def clock_set_ahead(seconds: float) -> Iterator[None]:
    """The host's wall clock goes ahead for a while, and then as before."""
    time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + int(seconds * 1e9))
    try:
        yield
    finally:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() - int(seconds * 1e9))


def clock_is_right(agent: Agent, vm: str) -> tuple[bool, str]:
    """Whether its clock is the host's within ten milliseconds, and what was seen."""
    while True:
        ahead = wall_clock_ahead()
        right, seen = ask_clock(agent, vm)
        if abs(wall_clock_ahead() - ahead) < BOUND_NS // 2:
            return right, seen  # else the host's clock was set meanwhile, as on one that is itself a machine that slept


def ask_clock(agent: Agent, vm: str) -> tuple[bool, str]:
    """The quickest of many answers counts."""
    words = ("vm", "exec", "--vm", vm, "--timeout", "100", "--", "python3", "-uc", ANSWERS)
    asking = agent.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert asking.stdin is not None and asking.stdout is not None
    answers = []
    for _ in range(QUESTIONS):
        before = time.time_ns()
        asking.stdin.write(b"?\n")
        asking.stdin.flush()
        inside = int(asking.stdout.readline())
        after = time.time_ns()
        answers.append((after - before, inside - (before + after) // 2))
    asking.stdin.close()
    assert asking.wait(60) == 0
    took, offset = min(answers)
    return abs(offset) < BOUND_NS + took // 2, f"{offset} ns, asked in {took} ns"
