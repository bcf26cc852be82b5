# SPDX-License-Identifier: Apache-2.0
"""What the kernel counts for all and not by control group: one VM's use takes nothing from another, nor from the host."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import Agent
from tests.security.limits import PROGRAMS, second_vm, witness

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")


def test_nobody_takes_terminals_from_others(agent: Agent, vm: str, second_vm: str) -> None:
    """One VM holds all that it can get; another gets as many, and the host's root still has its own."""
    source = (PROGRAMS / "counted.py").read_text()
    words = ("--", "python3", "-c", source, "terminals")
    with agent.start("vm", "exec", "--vm", vm, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        held = int(holder.stdout.readline())
        assert held > 0
        other = int(agent.run("vm", "exec", "--vm", second_vm, *words, check=True).text)
        host = subprocess.run(["/usr/bin/python3", "-c", source, "terminals"], stdin=subprocess.DEVNULL, capture_output=True)
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert other == held
    assert int(host.stdout) > 1
