# SPDX-License-Identifier: Apache-2.0
"""What the kernel counts for all and not by control group: one VM's use takes nothing from another, nor from the host."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Agent
from tests.security.limits import PROGRAMS, second_vm, witness

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

SOURCE = (PROGRAMS / "counted.py").read_text()


def words_in(vm: str, kind: str) -> tuple[str, ...]:
    """A command that takes all of a kind that the VM may have."""
    return ("vm", "exec", "--vm", vm, "--", "python3", "-c", SOURCE, kind)


def count_in(agent: Agent, vm: str, kind: str) -> int:
    """How many the VM gets, which are given back at once."""
    return int(agent.run(*words_in(vm, kind), check=True).text)


def count_on_host(kind: str) -> int:
    """How many this user of the host gets."""
    words = ["/usr/bin/python3", "-c", SOURCE, kind]
    return int(subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout)


@contextlib.contextmanager
def all_held_by(agent: Agent, vm: str, kind: str) -> Iterator[int]:
    """The VM holds all that it gets: how many."""
    with agent.start(*words_in(vm, kind), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        yield int(holder.stdout.readline())
        holder.stdin.close()
        assert holder.wait(30) == 0


def test_nobody_takes_terminals_from_others(agent: Agent, vm: str, second_vm: str) -> None:
    """One VM holds all that it can get; another gets as many, and the host's root still has its own."""
    with all_held_by(agent, vm, "terminals") as held:
        assert held > 0
        assert count_in(agent, second_vm, "terminals") == held
        assert count_on_host("terminals") > 1


@pytest.mark.as_root  # an ordinary user's VMs are that user's own, as are all that they take
@pytest.mark.parametrize("kind", ["inotify", "queues", "signals"])
def test_nobody_takes_what_is_counted_by_user(agent: Agent, vm: str, second_vm: str, kind: str) -> None:
    """Each VM is a user of its own, down to who made its namespace. What else runs on the host may take some as well."""
    alone = count_on_host(kind)
    with all_held_by(agent, vm, kind) as held:
        assert held > 0
        assert count_in(agent, second_vm, kind) > held // 2
        assert count_on_host(kind) > alone // 2
    assert count_in(agent, vm, kind) > held // 2
