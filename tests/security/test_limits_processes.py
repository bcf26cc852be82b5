# SPDX-License-Identifier: Apache-2.0
"""There are never more processes and threads than --pids, and no bomb outlives its time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import EMULATED, Agent, eventually
from tests.security.limits import alive_in, assert_usable, group_file, output_of, run_program, second_vm, witness

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

PIDS = 100


@pytest.fixture(scope="module")
def crowded_vm(agent: Agent) -> Iterator[str]:
    """A VM in which one crowd follows the other."""
    created = agent.create("--pids", str(PIDS))
    yield created
    agent.clean(created)


@pytest.mark.parametrize("crowd", ["threads", "processes", "zombies", "spawned"])
def test_a_crowd_ends_at_the_limit(agent: Agent, crowded_vm: str, crowd: str) -> None:
    """One more is refused with EAGAIN; whoever takes it as an answer lives on, and so does the VM."""
    result = run_program(agent, crowded_vm, "crowds.py", crowd)
    assert (result["verdict"], result["exit_code"]) == ("exited", 0)
    assert PIDS - 10 < int(output_of(result)) <= PIDS
    assert_usable(agent, crowded_vm)
    eventually(lambda: group_file(crowded_vm, "pids.current") in (1, None))


def test_orphans_are_reaped(agent: Agent, crowded_vm: str) -> None:
    """Three thousand that nobody waits for, where there is room for a hundred; under emulation three hundred."""
    result = run_program(agent, crowded_vm, "crowds.py", "orphaned_zombies", "100" if EMULATED else "1000")
    assert (result["verdict"], output_of(result)) == ("exited", "done\n")
    eventually(lambda: group_file(crowded_vm, "pids.current") in (1, None))


def test_zombies_of_a_daemon_go_with_it(agent: Agent, crowded_vm: str) -> None:
    """What was left in the background keeps its zombies until it dies."""
    assert output_of(run_program(agent, crowded_vm, "crowds.py", "zombies_of_one_that_stays")) == "done\n"
    assert group_file(crowded_vm, "pids.current") in (1 + 1 + 20, None)
    assert_usable(agent, crowded_vm)
    agent.sh(crowded_vm, "kill -9 $(cat /proc/[0-9]*/stat | grep 'python3) S 1 ' | cut -d ' ' -f 1)")
    eventually(lambda: group_file(crowded_vm, "pids.current") in (1, None))


@pytest.mark.parametrize("bomb", ["forks_faster_than_it_is_killed", "starts_threads_that_fork", "vforks_for_ever"])
def test_a_bomb_never_holds_more_than_the_limit(agent: Agent, crowded_vm: str, bomb: str) -> None:
    """Counted by the kernel from outside, all the time; other commands are refused or run, and never hang."""
    seen = []
    over = threading.Event()

    def count() -> None:
        while not over.wait(0.01):
            seen.append(group_file(crowded_vm, "pids.current") or 0)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        result = run_program(agent, crowded_vm, "unruly.py", bomb, timeout=6 if EMULATED else 2)
    finally:
        over.set()
        counter.join()
    assert result["verdict"] == "timed_out" and set(alive_in(crowded_vm)) <= {"era-run"}
    assert max(seen) <= PIDS + 1
    assert_usable(agent, crowded_vm)


@pytest.mark.parametrize(("after", "timeout", "verdict"), [("exit 5", 60, "exited"), ("sleep 1000", 1, "timed_out")])
def test_kill_of_everyone_leaves_init(agent: Agent, crowded_vm: str, after: str, timeout: int, verdict: str) -> None:
    """kill -9 -1 takes all but who calls it and init: its own leader and other commands, whose runs end."""
    beside = agent.start("vm", "run", "--vm", crowded_vm, "--cmd", "exec sleep 1000", stdout=-1)
    eventually(lambda: "sleep" in alive_in(crowded_vm))
    result = agent.run("vm", "run", "--vm", crowded_vm, "--timeout", str(timeout), "--cmd", f"kill -9 -1; {after}").json()
    assert result["verdict"] == verdict
    lost = json.loads(beside.communicate(timeout=30)[0])
    assert (lost["verdict"], lost["signal"]) == ("signaled", 9)
    assert set(alive_in(crowded_vm)) <= {"era-run"}
    assert_usable(agent, crowded_vm)
