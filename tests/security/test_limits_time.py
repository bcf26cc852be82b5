# SPDX-License-Identifier: Apache-2.0
"""A command whose time is up is dead with all that it started, whatever it does against that."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BUILD, EMULATED, Agent, eventually, groups_of, shim_of
from tests.security.limits import (
    PROGRAMS,
    alive_in,
    assert_usable,
    group_file,
    run_program,
    sample,
    second_vm,
    witness,
)

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

TIMEOUT = 5 if EMULATED else 1  # by then the program is at it
DEAD_WITHIN = 1.0  # the promise
CPU_FILES = ("cpu.cfs_quota_us", "cpu.max")
SLACK = 30.0 if EMULATED else 3.0  # of a machine that is busy with other things, too

UNRULY = [
    "ignores_every_signal",
    "double_forks",
    "makes_sessions",
    "changes_its_user",
    "stops_itself",
    "stops_in_a_vfork",
    "holds_the_pipes",
    "exits_its_main_thread",
    "renames_itself",
    "is_a_subreaper",
    "runs_away",
    "runs_away_in_sessions",
    "forks_faster_than_it_is_killed",
    "vforks_for_ever",
    "starts_threads_that_fork",
    "traces_its_child",
    "kills_its_leader",
    "kills_its_leader_and_runs_away",
    "kills_its_leader_and_runs_away_in_sessions",
    "kills_its_leader_and_runs_away_in_a_crowd",
    "wakes_its_leader",
    "waits_for_everything",
]


@pytest.fixture(scope="module")
def busy_vm(agent: Agent) -> Iterator[str]:
    """A VM in which one unruly program follows the other."""
    created = agent.create("--mem", "256", "--pids", "128")
    yield created
    agent.clean(created)


@pytest.mark.parametrize("program", sample(UNRULY, 3))
def test_nothing_outlives_its_time(agent: Agent, busy_vm: str, program: str) -> None:
    """Dead with all descendants when the answer comes, within a second of the deadline; the VM lives on."""
    keeper = shim_of(agent, busy_vm)
    result = run_program(agent, busy_vm, "unruly.py", program, timeout=TIMEOUT)
    assert set(alive_in(busy_vm)) <= {"era-run"}  # the leader goes when all others are dead
    assert (result["verdict"], result["exit_code"], result["timed_out"]) == ("timed_out", 124, True)
    assert float(result["duration"].rstrip("s")) < TIMEOUT + DEAD_WITHIN + SLACK
    assert_usable(agent, busy_vm)
    assert shim_of(agent, busy_vm) == keeper or EMULATED, "the VM was started anew"
    eventually(lambda: group_file(busy_vm, "pids.current") == 1)  # nor a zombie


@pytest.mark.parametrize(("chains", "how"), sample([(1, ""), (1, "orphaned"), (60, ""), (60, "orphaned")], 3))
def test_nobody_is_faster_than_the_kill(agent: Agent, chains: int, how: str) -> None:
    """Processes that are gone before /proc is read, and init busy with orphans."""
    program = BUILD / "tests" / "security" / f"comets-{chains}"
    vm = agent.create("--mem", "1024")
    try:
        agent.run("vm", "cp", str(program), f"{vm}:/tmp/comets", check=True)
        beside = agent.start("vm", "exec", "--vm", vm, "--", "cat", stdin=-1, stdout=-1)
        command = ("--timeout", str(TIMEOUT), "--cmd", f"exec /tmp/comets {how}")
        result = agent.run("vm", "run", "--vm", vm, *command).json()
        left = set(alive_in(vm))
        assert result["verdict"] == "timed_out" and (left == {"era-run", "cat"} or (left == set() and EMULATED)), left
        assert float(result["duration"].rstrip("s")) < TIMEOUT + DEAD_WITHIN + SLACK
        assert beside.communicate(b"still here", timeout=60)[0] == (b"still here" if left else b"")
        assert_usable(agent, vm)
    finally:
        agent.clean(vm)


def processors(vm: str) -> str:
    """The bound on processors that stands in the VM's control group."""
    (text,) = {(group / name).read_text() for group in groups_of(vm) for name in CPU_FILES if (group / name).exists()}
    return text.split()[0]


def test_who_is_killed_is_not_held_back(agent: Agent) -> None:
    """The bound on processors is lifted until the run has ended. Here the shim stands just before it says so."""
    create = ("vm", "create", "--language", "python", "--mem", "64")
    vm = str(agent.run(*create, env={"ERA_FAULT": "keep.ended=stop"}, check=True).json()["id"])
    try:
        shim = shim_of(agent, vm)
        run = agent.start("vm", "exec", "--vm", vm, "--timeout", "0.2", "--cmd", "sleep 1000")
        eventually(lambda: pathlib.Path(f"/proc/{shim}/comm").read_text() == "era-fault\n")
        assert processors(vm) in ("-1", "max")
        os.kill(shim, signal.SIGCONT)
        assert run.wait(60) == 124
        assert processors(vm) == "100000"
    finally:
        agent.clean(vm)


def test_ptrace_is_refused(agent: Agent, busy_vm: str) -> None:
    """Of one's own child, too: what is not traced cannot be hidden from a kill."""
    program = ("python3", "-c", (PROGRAMS / "unruly.py").read_text(), "traces_its_child")
    with agent.start("vm", "exec", "--vm", busy_vm, "--", *program, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.readline() == b"refused\n"
        agent.sh(busy_vm, "kill -9 -1", check=False)
        assert run.wait(60) == 137
