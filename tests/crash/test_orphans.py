# SPDX-License-Identifier: Apache-2.0
"""A command that outruns the report of its own pid: init reaps it before it has read whose it is, and remembers it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import Agent, eventually, shim_of
from tests.crash.host import Process, read
from tests.security.test_clients_of_the_shim import EXIT, Client, request

KEPT = 16  # ORPHANS_KEPT of src/guest/guest.h

# Children that it does not reap die with its leader; it is an orphan before they are.
PROGRAM = """
import os, signal, sys, time
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        signal.pause()
os.kill(-1, signal.SIGKILL)
while os.getppid() != 1:
    time.sleep(0.001)
os._exit(7)
"""


def children_of(pid: int) -> list[Process]:
    """All of them, the dead as well."""
    return [Process(int(name)) for name in read(f"/proc/{pid}/task/{pid}/children").split()]


def state_of(pid: int) -> str:
    """One letter: see proc(5)."""
    return read(f"/proc/{pid}/stat").rpartition(") ")[2][:1]


@pytest.mark.parametrize(("others", "code"), [(0, 7), (KEPT - 1, 7), (KEPT, 128 + signal.SIGKILL)])
def test_a_command_that_outran_the_report_of_its_pid(agent: Agent, others: int, code: int) -> None:
    """Its status is among those of the orphans that were reaped last; who buries it under more is said to be killed."""
    command = f"exec python3 -c '{PROGRAM}' {others}"
    vm = str(agent.run("vm", "create", "--language", "python", env={"ERA_FAULT": "inside.leading=stop"}, check=True).json()["id"])
    try:
        (init,) = (child.pid for child in children_of(shim_of(agent, vm)) if child.name == "era-init")
        with Client(agent, vm) as client:
            client.say(request(command.encode()))
            eventually(lambda: [(child.name, state_of(child.pid)) for child in children_of(init)] == [("era-fault", "T")])
            (leader,) = children_of(init)
            os.kill(init, signal.SIGSTOP)
            eventually(lambda: state_of(init) == "T")
            os.kill(init, signal.SIGCHLD)  # heard before the report, which is yet to be written: so it reaps first
            os.kill(leader.pid, signal.SIGCONT)
            eventually(lambda: [state_of(child.pid) for child in children_of(init)] == ["Z"] * (2 + others))
            os.kill(init, signal.SIGCONT)
            answer = client.answer()
        assert answer is not None and answer[0] == EXIT and answer[1][1] == code, answer
    finally:
        agent.clean(vm)
