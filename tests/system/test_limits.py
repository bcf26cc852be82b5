# SPDX-License-Identifier: Apache-2.0
"""Each limit of a VM, seen to hold."""

from __future__ import annotations

import json
import pathlib
import subprocess

from tests.conftest import EMULATED, Agent, groups_of, namespace_only


@namespace_only("the groups are around QEMU, and hold more")
def test_limits_are_written_to_the_control_groups(agent: Agent) -> None:
    """What was asked for stands in the kernel, v1 or v2."""
    vm = agent.create("--mem", "128", "--cpu", "2", "--pids", "64")
    try:
        text = {}
        for group in groups_of(vm):
            for name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max"):
                if (group / name).exists():
                    text[name] = (group / name).read_text().split()[0]
        assert text.get("memory.limit_in_bytes", text.get("memory.max")) == str(128 << 20)
        assert text.get("cpu.cfs_quota_us", text.get("cpu.max")) == "200000"
        assert text["pids.max"] == "65"
    finally:
        agent.clean(vm)


def test_memory_ends_the_command_and_not_the_vm(agent: Agent, vm: str) -> None:
    """A hog is killed, the verdict says so, and the VM is used on."""
    result = agent.run("vm", "run", "--vm", vm, "--cmd", "python3 -c 'x = bytearray(1 << 30)'")
    assert result.code == 137
    assert result.json()["verdict"] == "oom_killed"
    assert agent.sh(vm, "echo alive").text == "alive\n"


def test_cpu_of_one_is_what_two_busy_loops_get(agent: Agent, vm: str) -> None:
    """Two loops in a VM of one CPU use no more CPU time than the clock gave one."""
    program = "end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ]; do :; done"
    result = agent.run("vm", "run", "--vm", vm, "--cmd", f"({program}) & ({program}) & wait").json()
    wall_ms = float(result["duration"].rstrip("s")) * 1000
    assert result["cpu_ms"] < wall_ms * 1.25


def test_processes_are_bounded_and_the_vm_survives(agent: Agent) -> None:
    """Nobody starts more than --pids, and afterwards all is well."""
    vm = agent.create("--pids", "32")
    try:
        script = "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; true"
        result = agent.run("vm", "run", "--vm", vm, "--timeout", "10", "--cmd", script)
        assert b"fork" in pathlib.Path(result.json()["stderr"]).read_bytes()
        agent.run("vm", "run", "--vm", vm, "--timeout", "5", "--cmd", "kill -9 -1")
        assert agent.sh(vm, "echo alive").text == "alive\n"
    finally:
        agent.clean(vm)


def test_storage_is_bounded_in_bytes_and_inodes(agent: Agent, vm: str) -> None:
    """Half of the memory holds files, and no more; a million names do not fit either."""
    full = agent.sh(vm, "dd if=/dev/zero of=/big bs=1M count=200 2>&1; stat -c %s /big; rm /big", check=False)
    assert "No space left" in full.text
    assert int(full.text.splitlines()[-1]) <= 128 << 20
    script = "import os\ntry:\n  for i in range(1000000): os.close(os.open(f'/tmp/{i}', os.O_CREAT))\nexcept OSError as e: print(e.errno, i)"
    result = agent.run("vm", "exec", "--vm", vm, "--timeout", "120", "--", "python3", "-c", script, check=True)
    error, count = result.text.split()
    assert (error, int(count) < 40000) == ("28", True)


def test_output_beyond_the_cap_keeps_head_and_tail(agent: Agent, vm: str) -> None:
    """The command is not killed, and how much is missing is told to the byte."""
    total = 40 << 20
    command = f"printf HEAD; head -c {total - 8} /dev/zero; printf TAIL"
    result = agent.run("vm", "run", "--vm", vm, "--timeout", "100", "--cmd", command).json()
    log = pathlib.Path(result["stdout"]).read_bytes()
    assert (result["exit_code"], result["truncated"]) == (0, True)
    assert result["stdout_dropped_bytes"] == total - (16 << 20)
    assert log.startswith(b"HEAD") and log.endswith(b"TAIL") and len(log) < (16 << 20) + 100


def test_time_ends_a_command_with_all_its_descendants(agent: Agent, vm: str) -> None:
    """Also those that ignore SIGTERM, left the session, were orphaned, or stopped themselves."""
    script = (
        "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; sleep 1000' &); (sh -c 'sleep 1001 & ' &);"
        " sh -c 'kill -STOP $$' & sleep 1002"
    )
    result = agent.run("vm", "run", "--vm", vm, "--timeout", "1", "--cmd", script)
    assert (result.code, result.json()["verdict"], result.json()["timed_out"]) == (124, "timed_out", True)
    left = agent.sh(vm, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").text
    assert "sleep" not in left and "STOP" not in left


def test_what_was_left_in_the_background_lives_on(agent: Agent, vm: str) -> None:
    """A command that ends leaves its daemons, as on any machine, and does not wait for them."""
    agent.sh(vm, "(while :; do echo noise; sleep 0.01; done) & echo $! > /tmp/pid")
    assert agent.sh(vm, "kill -0 $(cat /tmp/pid) && echo there").text == "there\n"


@namespace_only("processes are counted by the guest's own kernel, out of sight")
def test_a_fork_bomb_is_bounded_and_ends_with_its_time(agent: Agent) -> None:
    """The group never holds more than --pids and init, and the VM is used on."""
    vm = agent.create("--pids", "64")
    try:
        bomb = agent.start(
            "vm", "run", "--vm", vm, "--timeout", "4", "--cmd", "b() { b | b & }; b; exec sleep 1000", stdout=subprocess.PIPE
        )
        seen = 0
        groups = [group for group in groups_of(vm) if (group / "pids.current").exists()]
        ended = False
        while bomb.poll() is None and groups and not ended:
            try:
                seen = max(seen, int((groups[0] / "pids.current").read_text()))
            except OSError:
                ended = True  # with the whole VM, for they were not all dead within a second
        assert not ended or EMULATED
        out, _ = bomb.communicate()
        assert json.loads(out)["verdict"] == "timed_out"
        assert not groups or 32 < seen <= 65
        assert agent.sh(vm, "echo alive").text == "alive\n"
    finally:
        agent.clean(vm)


def test_shared_memory_is_bounded_too(agent: Agent) -> None:
    """/dev/shm, /dev and System V segments are memory of the VM."""
    vm = agent.create("--mem", "96")
    try:
        for path in ("/dev/shm/big", "/dev/big", "/workspace/out/big", "/tmp/big"):
            full = agent.sh(vm, f"head -c 200M /dev/zero > {path}; stat -c %s {path}; rm -f {path}", check=False)
            assert int(full.text.splitlines()[-1]) <= 96 << 20, path
        assert agent.sh(vm, "echo alive").text == "alive\n"
    finally:
        agent.clean(vm)
