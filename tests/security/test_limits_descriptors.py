# SPDX-License-Identifier: Apache-2.0
"""Open files: 1024, up to 65536 for who asks, and a clean no at the end of each."""

from __future__ import annotations

import json
import pathlib
import resource

import pytest

from tests.conftest import EMULATED, Agent, eventually, shim_of
from tests.security.limits import PROGRAM_SECONDS, assert_usable, output_of, run_program, second_vm, witness

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

HARD = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # no more than the caller may


def open_files(pid: int) -> int:
    """How many descriptors a process of the host has."""
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def test_the_limits_are_what_they_are_said_to_be(agent: Agent, vm: str) -> None:
    """Soft and hard, and nobody raises the hard one."""
    assert agent.sh(vm, "ulimit -Sn; ulimit -Hn; ulimit -Hc").text.split() == ["1024", str(HARD), "0"]
    assert agent.sh(vm, f"ulimit -Hn {HARD + 1}", check=False).code != 0


@pytest.mark.parametrize(("soft", "kind"), [(1024, "files"), (HARD, "files"), (HARD, "sockets"), (HARD, "eventfds")])
def test_the_last_descriptor_is_followed_by_a_clean_error(agent: Agent, vm: str, soft: int, kind: str) -> None:
    """EMFILE inside; other commands, the VM's keeper and the host do not notice."""
    shim = shim_of(agent, vm)
    assert_usable(agent, vm)
    before = open_files(shim)
    end = json.loads(output_of(run_program(agent, vm, "descriptors.py", kind, str(soft))))
    assert end == {"error": "EMFILE", "open": soft}
    assert_usable(agent, vm)
    eventually(lambda: open_files(shim) <= before)


def test_descriptors_in_flight_are_bounded(agent: Agent, vm: str) -> None:
    """Those that lie in a socket, sent and not received, are not open in any process: the kernel counts them, too."""
    end = json.loads(output_of(run_program(agent, vm, "descriptors.py", "in_flight", "1024")))
    assert end["error"] in ("ETOOMANYREFS", "EMFILE", "EAGAIN") and end["open"] <= 1024 + 253
    assert_usable(agent, vm)


def test_runs_do_not_use_up_descriptors_of_the_keeper(agent: Agent, vm: str) -> None:
    """One after the other, and many at once that are killed within a second, of which an emulated processor manages few."""
    shim = shim_of(agent, vm)
    assert_usable(agent, vm)
    before = open_files(shim)
    inside = agent.sh(vm, "ls /proc/self/fd | wc -l").text
    words = ("vm", "run", "--vm", vm, "--timeout", "1", "--cmd", "sleep 100")
    runs = [agent.start(*words, stdout=-3) for _ in range(4 if EMULATED else 100)]
    assert {run.wait(PROGRAM_SECONDS) for run in runs} == {124}
    assert agent.sh(vm, "ls /proc/self/fd | wc -l").text == inside
    eventually(lambda: open_files(shim) <= before)
