# SPDX-License-Identifier: Apache-2.0
"""A VM gets the CPU time that it was given, however many ask for it."""

from __future__ import annotations

import pytest

from tests.conftest import Agent
from tests.security.limits import assert_usable, run_program, second_vm, witness

__all__ = ["second_vm", "witness"]

SECONDS = 3
# The kernel deals in periods of 100 ms: one more at the beginning, and what a CPU takes at once beyond its share.
TOLERANCE = 1.25


@pytest.mark.parametrize(("cpu", "shape", "count"), [(1, "processes", 2), (1, "threads", 2), (1, "processes", 200), (2, "processes", 64)])
def test_busy_loops_share_what_the_vm_has(agent: Agent, witness: object, cpu: int, shape: str, count: int) -> None:
    """Time used is no more than the clock's, times --cpu; the neighbour is answered meanwhile."""
    vm = agent.create("--cpu", str(cpu))
    try:
        result = run_program(agent, vm, "busy.py", shape, str(count), str(SECONDS))
        wall_ms = float(result["duration"].rstrip("s")) * 1000
        assert result["verdict"] == "exited" and wall_ms >= SECONDS * 1000
        assert result["cpu_ms"] <= wall_ms * cpu * TOLERANCE
        assert_usable(agent, vm)
    finally:
        agent.clean(vm)


def test_a_busy_vm_leaves_its_share_to_another(agent: Agent, second_vm: str) -> None:
    """Two VMs that both want all: neither starves."""
    vm = agent.create("--cpu", "1")
    try:
        both = [agent.start("vm", "run", "--vm", each, "--cmd",
                            f"python3 -c 'import time; e = time.monotonic() + {SECONDS}\nwhile time.monotonic() < e: pass'",
                            stdout=-1) for each in (vm, second_vm)]
        used = [int(out.split(b'"cpu_ms":')[1].split(b",")[0]) for out in (run.communicate(timeout=60)[0] for run in both)]
        assert min(used) > max(used) / 10, used
    finally:
        agent.clean(vm)


def test_a_command_cannot_go_before_the_others(agent: Agent, second_vm: str) -> None:
    """No real-time class, no nice value below what it has, no more than the CPUs of the host."""
    program = """
import os
for what, call in {
    "nice": lambda: os.nice(-1),
    "fifo": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "round robin": lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)),
}.items():
    try:
        print(what, call())
    except PermissionError:
        print(what, "refused")
print("nice", os.nice(0))
"""
    result = agent.run("vm", "exec", "--vm", second_vm, "--", "python3", "-c", program, check=True)
    assert result.text.splitlines() == ["nice refused", "fifo refused", "round robin refused", "nice 0"]
