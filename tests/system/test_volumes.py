# SPDX-License-Identifier: Apache-2.0
"""What a volume keeps, and how much."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.conftest import Agent, eventually, shim_of

FILE = "/workspace/persist/kept"


def test_a_volume_survives_stop_crash_and_a_kept_clean(agent: Agent) -> None:
    """Written once, read after each of the ways in which a VM can go."""
    vm = agent.create("--persist", "--disk", "32")
    agent.sh(vm, f"echo one > {FILE}")
    agent.run("vm", "stop", "--vm", vm, check=True)
    assert agent.sh(vm, f"cat {FILE}").text == "one\n"

    agent.sh(vm, f"echo two > {FILE}")
    os.kill(shim_of(agent, vm), signal.SIGKILL)
    eventually(lambda: agent.status(vm) == "stopped")
    assert agent.sh(vm, f"cat {FILE}").text == "two\n"

    agent.run("vm", "clean", "--vm", vm, "--keep-persist", check=True)
    volumes = {v["name"]: v for v in agent.run("volume", "list", check=True).lines()}
    assert volumes[vm]["vm"] is None
    second = agent.create("--volume", vm)
    assert agent.sh(second, f"cat {FILE}").text == "two\n"
    agent.run("vm", "clean", "--vm", second, check=True)
    assert vm not in agent.run("volume", "list", check=True).text
    assert str(agent.state) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout


@pytest.mark.as_root
def test_a_volume_is_bounded(agent: Agent) -> None:
    """--disk is its size, whatever is written."""
    vm = agent.create("--persist", "--disk", "32")
    try:
        result = agent.sh(vm, "dd if=/dev/zero of=/workspace/persist/big bs=1M count=64 2>&1", check=False)
        assert "No space left" in result.text
    finally:
        agent.clean(vm)


def test_a_volume_belongs_to_one_vm_at_a_time(agent: Agent) -> None:
    """A second VM is refused, and so is its removal."""
    vm = agent.create("--persist", "--disk", "32")
    try:
        busy = agent.run("vm", "create", "--language", "python", "--volume", vm)
        assert busy.error()["code"] == "volume_busy"
        assert agent.run("volume", "remove", vm).error()["code"] == "volume_busy"
    finally:
        agent.clean(vm)
    missing = agent.run("vm", "create", "--language", "python", "--volume", "no-such")
    assert missing.error()["code"] == "volume_not_found"
