# SPDX-License-Identifier: Apache-2.0
"""Output of any size and content exhausts neither memory nor disk, and nobody is killed for it."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import EMULATED, Agent, eventually
from tests.security.limits import (
    EVERYTHING,
    PROGRAMS,
    SHIM_MEMORY_KIB,
    assert_memory_bounded,
    assert_usable,
    group_file,
    run_program,
    second_vm,
    shim_peak_kib,
    witness,
)

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

MEM_MIB = 64
STREAM_MIB = 5 << 10 if EVERYTHING else 20 if EMULATED else 512  # of each of the two
CAP = 16 << 20


@pytest.fixture(scope="module")
def loud_vm(agent: Agent) -> Iterator[str]:
    """A small VM, whose output would not fit its memory by far."""
    created = agent.create("--mem", str(MEM_MIB))
    yield created
    agent.clean(created)


def folder_size(agent: Agent, vm: str) -> int:
    """What the VM's folder takes on the host's disk."""
    files = [path.stat() for path in (agent.state / "vms" / vm).rglob("*") if path.is_file()]
    return sum({file.st_ino: file.st_blocks * 512 for file in files}.values())


@pytest.mark.parametrize("kind", ["lines", "without_newline", "binary", "escapes"])
def test_a_flood_on_both_streams_is_cut_and_counted(agent: Agent, loud_vm: str, kind: str) -> None:
    """Head and tail are kept of each, the rest is counted to the byte; shim and VM stay small."""
    mib = STREAM_MIB if kind == "binary" else min(64, STREAM_MIB)
    before = folder_size(agent, loud_vm)
    result = run_program(agent, loud_vm, "noise.py", kind, str(mib), timeout=600)
    assert (result["verdict"], result["exit_code"], result["truncated"]) == ("exited", 0, True)
    for stream in ("stdout", "stderr"):
        assert result[f"{stream}_dropped_bytes"] == (mib << 20) - CAP
        assert pathlib.Path(result[stream]).stat().st_size < CAP + 100
    assert folder_size(agent, loud_vm) < before + 2 * CAP + (1 << 20)
    logs = agent.run("vm", "logs", "--vm", loud_vm, "--run", result["run"], check=True).stdout
    assert logs == pathlib.Path(result["stdout"]).read_bytes()
    assert_memory_bounded(agent, loud_vm, MEM_MIB)


def test_a_flood_goes_through_to_a_reader(agent: Agent, loud_vm: str) -> None:
    """Live, to the last byte of both streams, whatever the logs hold."""
    mib = STREAM_MIB
    words = ("vm", "exec", "--vm", loud_vm, "--timeout", "600", "--", "python3", "-c",
             (PROGRAMS / "noise.py").read_text(), "binary", str(mib))
    with agent.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        counts = {}

        def count(name: str) -> None:
            stream = getattr(run, name)
            counts[name] = sum(map(len, iter(lambda: stream.read1(1 << 20), b"")))

        threads = [threading.Thread(target=count, args=(name,)) for name in ("stdout", "stderr")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert run.wait(30) == 0
    assert counts == {"stdout": mib << 20, "stderr": mib << 20}
    assert_memory_bounded(agent, loud_vm, MEM_MIB)


@pytest.mark.parametrize("how", ["stopped", "never_reads"])
def test_a_reader_that_does_not_read_holds_the_command_back(agent: Agent, loud_vm: str, how: str) -> None:
    """The command waits in its write; nothing piles up in the shim or in the VM; then it goes on where it was."""
    blocks = 100 if EMULATED else 400
    command = f"i=0; while [ $i -lt {blocks} ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > /tmp/count; done"
    with agent.start("vm", "exec", "--vm", loud_vm, "--timeout", "600", "--cmd", command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.read1(1) == b"\0"
        if how == "stopped":
            run.send_signal(signal.SIGSTOP)
        eventually(lambda: stands_still(agent, loud_vm))
        held = int(agent.sh(loud_vm, "cat /tmp/count").text)
        assert 0 < held < 40, "a few buffers' worth and no more"
        assert shim_peak_kib(agent, loud_vm) <= SHIM_MEMORY_KIB
        run.send_signal(signal.SIGCONT)
        assert 1 + len(run.stdout.read()) == blocks * 65536
        assert run.wait(30) == 0
    assert_memory_bounded(agent, loud_vm, MEM_MIB)


def stands_still(agent: Agent, vm: str) -> bool:
    """Whether the count of the command above is the same for half a second."""
    first = agent.sh(vm, "cat /tmp/count", check=False).text
    time.sleep(0.5)
    return first != "" and first == agent.sh(vm, "cat /tmp/count", check=False).text


def test_a_reader_that_never_comes_back_is_no_reason_to_live_on(agent: Agent, loud_vm: str) -> None:
    """The time of a command that is held back passes, too: it ends, and its client learns that when it looks."""
    words = ("vm", "exec", "--vm", loud_vm, "--timeout", "5" if EMULATED else "1", "--", "cat", "/dev/zero")
    with agent.start(*words, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.read1(1) == b"\0"
        run.send_signal(signal.SIGSTOP)
        eventually(lambda: group_file(loud_vm, "pids.current") in (1, None))
        run.send_signal(signal.SIGCONT)
        run.stdout.read()
        assert run.wait(30) == 124
    assert_usable(agent, loud_vm)


def test_a_reader_that_hangs_up_ends_the_flood(agent: Agent, loud_vm: str) -> None:
    """As a pipe does; and without a client the shim keeps no more than before."""
    words = ("vm", "exec", "--vm", loud_vm, "--timeout", "60", "--", "cat", "/dev/zero")
    with agent.start(*words, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.read1(1) == b"\0"
        run.stdout.close()
        run.wait(30)
    eventually(lambda: group_file(loud_vm, "pids.current") in (1, None))
    assert_memory_bounded(agent, loud_vm, MEM_MIB)
    assert_usable(agent, loud_vm)


def test_many_floods_at_once(agent: Agent, loud_vm: str) -> None:
    """Sixteen runs that all pour, each with its own window; an emulated processor pours for four."""
    runs = [agent.start("vm", "run", "--vm", loud_vm, "--timeout", "120", "--cmd", "head -c 40M /dev/zero",
                        stdout=subprocess.PIPE) for _ in range(4 if EMULATED else 16)]
    for run in runs:
        out, _ = run.communicate(timeout=200)
        assert run.returncode == 0 and b'"stdout_dropped_bytes":25165824' in out
    assert_memory_bounded(agent, loud_vm, MEM_MIB)
