# SPDX-License-Identifier: Apache-2.0
"""Whatever memory is asked for, and by whatever name: it is the VM's, and no more than that."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually
from tests.security.limits import (
    alive_in,
    assert_memory_bounded,
    assert_usable,
    group_file,
    output_of,
    pages_read_again,
    run_program,
    second_vm,
    witness,
)

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

MEM_MIB = 64


@pytest.fixture(scope="module")
def small_vm(agent: Agent) -> Iterator[str]:
    """A VM that one test after the other fills up: it is as good as new after each."""
    created = agent.create("--mem", str(MEM_MIB), "--persist", "--disk", "256")
    yield created
    agent.clean(created)


@pytest.mark.parametrize(
    "hog",
    [
        "malloc",
        "anonymous_mapping",
        "locked_mapping",
        "memfd",
        "pipes",
        "unix_sockets",
        "epolls",
        "sockets_without_end",
    ],
)
def test_memory_of_processes_is_bounded_and_given_back(agent: Agent, small_vm: str, hog: str) -> None:
    """The hog is killed and the verdict says why; what it held is free again, kernel memory too."""
    result = run_program(agent, small_vm, "hogs.py", hog)
    assert (result["verdict"], result["exit_code"]) == ("oom_killed", 137), output_of(result)
    assert_usable(agent, small_vm)
    eventually(lambda: alive_in(small_vm) == [])  # children of the hog die with it, but not at the same instant
    agent.sh(small_vm, "python3 -c 'bytearray(24 << 20)'")
    assert_memory_bounded(agent, small_vm, MEM_MIB)


@pytest.mark.parametrize("hog", ["system_v_memory", "system_v_messages"])
def test_memory_that_outlives_its_maker_ends_with_the_vm(agent: Agent, hog: str) -> None:
    """Nobody's death gives it back; until the VM is started anew, commands say that memory is what they lack."""
    vm = agent.create("--mem", str(MEM_MIB))
    try:
        result = run_program(agent, vm, "hogs.py", hog)
        assert (result["verdict"], result["exit_code"]) == ("oom_killed", 137), output_of(result)
        late = agent.run("vm", "run", "--vm", vm, "--cmd", "python3 -c 'bytearray(32 << 20)'")
        assert late.json()["verdict"] in ("oom_killed", "vm_lost")
        assert_memory_bounded(agent, vm, MEM_MIB)
        agent.run("vm", "stop", "--vm", vm, check=True)
        again = agent.run("vm", "run", "--vm", vm, "--cmd", "python3 -c 'bytearray(32 << 20)'")
        assert again.json()["verdict"] == "exited" and again.code == 0
    finally:
        agent.clean(vm)


def test_files_cannot_fill_all_memory(agent: Agent) -> None:
    """With every place full, in bytes and in names, there is still room for the command that deletes."""
    vm = agent.create("--mem", "128")
    try:
        for place in ("/", "/tmp", "/workspace/out", "/dev", "/dev/shm"):
            full = agent.sh(vm, f"head -c 200M /dev/zero > {place}/fill", check=False)
            assert b"No space left" in full.stderr and full.code == 1, (place, full)
        for place in ("/tmp", "/dev/shm"):
            full = agent.sh(vm, f"seq -f {place}/fill-%.0f {128 * 128} | xargs touch", check=False)
            assert b"No space left" in full.stderr, (place, full)
        assert_usable(agent, vm)
        agent.sh(vm, "rm /fill && find / -xdev -name 'fill*' -delete && find /dev -name 'fill*' -delete")
        agent.sh(vm, "python3 -c 'bytearray(64 << 20)'")
        assert_memory_bounded(agent, vm, 128)
    finally:
        agent.clean(vm)


def test_page_cache_is_reclaimed_and_nobody_killed(agent: Agent, small_vm: str) -> None:
    """Files of the volume that are larger than the memory are written, mapped and read."""
    script = """
        cd /workspace/persist && head -c 150M /dev/zero > file && cat file | wc -c && python3 -c '
        import mmap
        with open("file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            for offset in range(0, len(mapping), 4096): mapping[offset] = 7
        ' && tail -c 1 file | od -An -tu1; rm file
    """.replace("\n        ", "\n")
    before = pages_read_again(small_vm)
    result = agent.run("vm", "run", "--vm", small_vm, "--timeout", "100", "--cmd", script).json()
    assert (result["verdict"], result["exit_code"]) == ("exited", 0), pathlib.Path(result["stderr"]).read_text()
    assert output_of(result).split() == [str(150 << 20), "0"]
    assert pages_read_again(small_vm) > before, "there was no need to reclaim"
    assert_memory_bounded(agent, small_vm, MEM_MIB)


def test_unread_data_of_internet_sockets_is_bounded(agent: Agent, small_vm: str) -> None:
    """The kernel counts it apart on v1: a quarter of the memory, and what each socket may always hold."""
    sockets = 200
    result = run_program(agent, small_vm, "internet_sockets.py", str(sockets))
    sent = json.loads(output_of(result)) if result["verdict"] == "exited" else {}
    assert result["verdict"] in ("exited", "oom_killed")
    assert sum(sent.values()) <= (MEM_MIB << 20) + sockets * (256 << 10), sent
    counted = group_file(small_vm, "memory.kmem.tcp.max_usage_in_bytes")
    assert counted is None or 0 < counted <= (MEM_MIB << 20) // 4 + sockets * (256 << 10)
    assert_usable(agent, small_vm)
    assert_memory_bounded(agent, small_vm, MEM_MIB)


def test_a_killed_command_is_told_from_its_neighbours(agent: Agent, small_vm: str) -> None:
    """Who runs beside a hog and ends by itself is not said to have been killed for its memory."""
    with agent.start("vm", "run", "--vm", small_vm, "--stdin", "--cmd", "read word; exit 3", stdin=-1, stdout=-1) as beside:
        eventually(lambda: "sh" in alive_in(small_vm))
        assert run_program(agent, small_vm, "hogs.py", "malloc")["verdict"] == "oom_killed"
        out, _ = beside.communicate(b"go\n", timeout=60)
    assert (json.loads(out)["verdict"], json.loads(out)["exit_code"]) == ("exited", 3)


def test_a_driver_whose_child_was_killed_lacked_memory_too(agent: Agent, small_vm: str) -> None:
    """Alone in its VM, a command that makes a status of its own of the kernel's kill is still judged by the kill."""
    driver = "import subprocess, sys; sys.exit(subprocess.call(['python3', '-c', 'bytearray(1 << 30)']) and 1)"
    result = agent.run("vm", "run", "--vm", small_vm, "--cmd", f'python3 -c "{driver}"').json()
    assert (result["verdict"], result["exit_code"]) == ("oom_killed", 137)
