# SPDX-License-Identifier: Apache-2.0
"""Who may die when, and what is left: nothing."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import select
import signal
import subprocess

import pytest

from tests.conftest import LEAST_MEM, MICROVM, Agent, eventually, groups_of, processes_of, shim_of


def uid_of(agent: Agent, vm: str) -> str:
    """The host's uid of a VM's guest, the child of its shim."""
    shim = shim_of(agent, vm)
    child = pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()[0]
    return next(line for line in pathlib.Path(f"/proc/{child}/status").read_text().splitlines() if line.startswith("Uid:"))


def test_twenty_creates_at_once_are_twenty_vms(agent: Agent) -> None:
    """Each has an id and a range of uids of its own, and each answers."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        vms = list(pool.map(lambda _: agent.create("--mem", LEAST_MEM), range(20)))
        assert len(set(vms)) == 20
        assert all(pool.map(lambda vm: agent.sh(vm, "echo here").text == "here\n", vms))
        assert os.geteuid() != 0 or len({uid_of(agent, vm) for vm in vms}) == 20
        list(pool.map(agent.clean, vms))


def test_eight_clients_run_in_one_vm_at_once(agent: Agent, vm: str) -> None:
    """Every one gets his own output and status."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: agent.sh(vm, f"echo {i}; exit {i}", check=False), range(40)))
    assert [(r.text, r.code) for r in results] == [(f"{i}\n", i) for i in range(40)]


def test_a_killed_shim_takes_its_guest_along_and_leaves_nothing(agent: Agent, vm: str) -> None:
    """The run in flight is vm_lost; one list later the record is right and the host is clean."""
    run = agent.start("vm", "run", "--vm", vm, "--cmd", "echo begun; sleep 1000", stdout=subprocess.PIPE)
    eventually(lambda: agent.status(vm) == "running")
    os.kill(shim_of(agent, vm), signal.SIGKILL)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 125 and b'"vm_lost"' in out
    listed = {v["id"]: v["status"] for v in agent.run("vm", "list", "--all", check=True).lines()}
    assert listed[vm] == "stopped"
    assert groups_of(vm) == []
    assert not (agent.state / "vms" / vm / "vm.sock").exists()
    assert agent.sh(vm, "echo again").text == "again\n"


def test_a_killed_init_ends_the_vm_honestly(agent: Agent, vm: str) -> None:
    """The guest's PID 1, killed from the host."""
    children = pathlib.Path(f"/proc/{shim_of(agent, vm)}/task/{shim_of(agent, vm)}/children")
    guest = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    if not guest:
        text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(shim_of(agent, vm))], capture_output=True, text=True)
        guest = [int(pid) for pid in text.stdout.split()]
    run = agent.start("vm", "run", "--vm", vm, "--cmd", "sleep 1000", stdout=subprocess.PIPE)
    eventually(lambda: agent.status(vm) == "running")
    os.kill(guest[0], signal.SIGKILL)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 125 and b'"vm_lost"' in out
    eventually(lambda: agent.status(vm) == "stopped")
    assert groups_of(vm) == []


def test_a_live_command_whose_vm_ends_says_so(agent: Agent, vm: str) -> None:
    """It prints no result: the error is all there is to tell a lost VM from a command that failed."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "echo begun; sleep 1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"begun\n"
    os.kill(shim_of(agent, vm), signal.SIGKILL)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 125 and json.loads(said)["code"] == "vm_lost"


def test_a_run_outlives_its_client_and_is_recorded(agent: Agent, vm: str) -> None:
    """kill -9 of the command line leaves the run to its end and its logs."""
    run = agent.start("vm", "run", "--vm", vm, "--cmd", "echo before; sleep 1; echo after", stdout=subprocess.PIPE)
    eventually(lambda: agent.status(vm) == "running")
    run.kill()
    run.wait()
    eventually(lambda: agent.status(vm) == "ready")
    assert agent.run("vm", "logs", "--vm", vm, check=True).text == "before\nafter\n"


@pytest.mark.slow_emulated
def test_a_create_that_is_killed_leaves_all_or_nothing(fresh_state: Agent) -> None:
    """At any instant: afterwards there is a whole VM, or no trace of one."""
    agent = fresh_state
    for step in range(24):
        create = agent.start("vm", "create", "--language", "python", stdout=subprocess.DEVNULL)
        try:
            create.wait(timeout=0.002 * step)
        except subprocess.TimeoutExpired:
            create.kill()
            create.wait()
        eventually(lambda: all(v["status"] != "provisioning" for v in agent.run("vm", "list", "--all").lines()))
        for vm in agent.run("vm", "list", "--all", check=True).lines():
            assert agent.sh(vm["id"], "echo whole").text == "whole\n"
            agent.clean(vm["id"])
        eventually(lambda: processes_of(agent.state) == [])
        assert list((agent.state / "vms").iterdir()) == []


def test_stop_run_and_clean_at_once_are_each_right_or_refused(agent: Agent) -> None:
    """Never half of each."""
    for _ in range(5):
        vm = agent.create()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            verbs = [("run", "--vm", vm, "--cmd", "true"), ("stop", "--vm", vm), ("run", "--vm", vm, "--cmd", "true")]
            results = list(pool.map(lambda verb: agent.run("vm", *verb), verbs * 2))
            results += list(pool.map(lambda verb: agent.run("vm", *verb), [("clean", "--vm", vm), verbs[0]]))
        for result in results:
            if result.code != 0 and result.stdout == b"":
                assert result.error()["code"] in ("vm_busy", "vm_not_found", "run_ended"), result
        agent.clean(vm)
        assert groups_of(vm) == []


def test_stop_and_clean_can_be_said_twice(agent: Agent) -> None:
    """Both succeed on a VM that exists, and an unknown id is an error."""
    vm = agent.create()
    for _ in range(2):
        assert agent.run("vm", "stop", "--vm", vm, check=True).json()["id"] == vm
    agent.run("vm", "clean", "--vm", vm, check=True)
    for verb in ("stop", "clean", "show"):
        assert agent.run("vm", verb, "--vm", vm).error()["code"] == "vm_not_found"


@pytest.mark.slow_emulated
def test_a_heavy_guest_of_a_killed_shim_leaves_no_group(agent: Agent) -> None:
    """Hundreds of processes and much memory take a while to die: the sweep waits for them."""
    vm = agent.create("--mem", "512")
    try:
        count = 10 if MICROVM else 300  # to the host all of a kernel's processes are one
        crowd = f"i=0; while [ $i -lt {count} ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done"
        agent.sh(vm, f"head -c 200M /dev/zero > /big; {crowd}")
        shim = os.pidfd_open(shim_of(agent, vm))
        signal.pidfd_send_signal(shim, signal.SIGKILL)
        select.select([shim], [], [])  # dead, which takes it a moment; its guest may be dying
        os.close(shim)
        agent.run("vm", "list", check=True)
        assert groups_of(vm) == []
        assert agent.status(vm) == "stopped"
    finally:
        agent.clean(vm)


def test_a_create_with_a_volume_that_is_killed_leaves_no_file(fresh_state: Agent) -> None:
    """Nor a loop device; whatever instant it was."""
    agent = fresh_state
    for step in range(24):
        words = ("vm", "create", "--language", "python", "--persist", "--disk", "16")
        create = agent.start(*words, stdout=subprocess.DEVNULL)
        try:
            create.wait(timeout=0.004 * step)
        except subprocess.TimeoutExpired:
            create.kill()
            create.wait()
    eventually(lambda: all(v["status"] != "provisioning" for v in agent.run("vm", "list", "--all").lines()))
    agent.run("vm", "clean", "--all", check=True)
    eventually(lambda: processes_of(agent.state) == [])
    assert list((agent.state / "vms").iterdir()) == []
    assert list((agent.state / "volumes").iterdir()) == []
    assert str(agent.state) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout


def test_a_run_whose_client_is_killed_is_never_left_open(agent: Agent, vm: str) -> None:
    """At any instant: the VM is ready again, and every run on record has an end."""
    for step in range(40):
        run = agent.start("vm", "run", "--vm", vm, "--cmd", "true", stdout=subprocess.DEVNULL)
        try:
            run.wait(timeout=0.001 * step)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
    eventually(lambda: agent.status(vm) == "ready")


def test_a_temp_that_is_killed_leaves_no_vm(fresh_state: Agent) -> None:
    """At whatever instant: its VM ends by itself, and the next list takes it off the record."""
    agent = fresh_state
    for step in range(12):
        temp = agent.start(
            "vm", "temp", "--language", "python", "--cmd", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            temp.wait(timeout=0.008 * step)
        except subprocess.TimeoutExpired:
            temp.kill()
            temp.wait()
    eventually(lambda: processes_of(agent.state) == [])
    assert agent.run("vm", "list", "--all", check=True).text == ""
    assert list((agent.state / "vms").iterdir()) == []


def test_a_vm_outlives_who_made_it(agent: Agent) -> None:
    """Also the death of the whole session of processes that it was created from."""
    words = [str(agent.program), "vm", "create", "--language", "python"]
    creator = subprocess.Popen(
        ["sh", "-c", '"$@"; echo; exec sleep 1000', "sh", *words],
        env=agent.env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert creator.stdout is not None
    vm = json.loads(creator.stdout.readline())["id"]
    try:
        creator.stdout.readline()
        os.killpg(creator.pid, signal.SIGKILL)
        creator.wait()
        assert agent.sh(vm, "echo alive").text == "alive\n"
    finally:
        agent.clean(vm)
