# SPDX-License-Identifier: Apache-2.0
"""kill -9 of anybody at random times, with eight clients at work; and who is stopped holds nobody up for ever."""

from __future__ import annotations

import concurrent.futures
import fcntl
import os
import pathlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually, shim_of
from tests.crash.host import Host, Process

CLIENTS = 8
# Of storm; AGENT_CRASH_SECONDS lets it last longer.
SECONDS = float(os.environ.get("AGENT_CRASH_SECONDS", "40"))

# What a client may be told while others die around it.
CODES = {"vm_busy", "vm_not_found", "vm_start_failed", "run_ended", "protocol_error", "copy_failed", "volume_busy",
         "network_unavailable"}  # the last: of a keeper of a network that was killed at its start


def client(agent: Agent, dice: random.Random, until: float, told: list[str]) -> int:
    """Works with VMs of its own and of others until the time is over; every second command is killed on its way."""
    commands = 0
    while time.monotonic() < until:
        vms = agent.run("vm", "list", "--all", "--quiet").text.split()
        vm = dice.choice(vms) if vms else "python-1"
        words = dice.choice([
            ("create", "--language", "python", "--mem", "64"),
            ("create", "--language", "python", "--mem", "64", "--persist", "--disk", "16"),
            ("create", "--language", "python", "--mem", "64", "--network", "allow_all"),
            ("temp", "--language", "python", "--mem", "64", "--cmd", "sleep 0.05"),
            ("run", "--vm", vm, "--cmd", "sleep 0.02; echo ok"),
            ("run", "--vm", vm, "--file", "/etc/passwd", "--cmd", "cat in/passwd"),
            ("stop", "--vm", vm),
            ("clean", "--vm", vm),
            ("clean", "--vm", vm),
        ])
        command = agent.start("vm", *words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, error = command.communicate(timeout=dice.random() * 0.08 if dice.random() < 0.5 else 90)
        except subprocess.TimeoutExpired:
            command.kill()
            _, error = command.communicate()
        if command.returncode in (1, 2):
            told.append(error.decode())
        commands += 1
    return commands


def test_kill_9_at_random_times(host: Host) -> None:
    """Of command lines, shims, inits, keepers of networks and whatever else is ours."""
    seed = int(os.environ.get("AGENT_CRASH_SEED", time.time_ns() % 1_000_000))
    print(f"AGENT_CRASH_SEED={seed}")
    dice = random.Random(seed)
    until = time.monotonic() + SECONDS
    told: list[str] = []
    killed: dict[str, int] = {}
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, host.agent, random.Random(seed + i), until, told) for i in range(CLIENTS)]
        pause = threading.Event()
        while not pause.wait(dice.random() * 0.3) and time.monotonic() < until:
            ours = [process for process, _ in host.processes().values()]
            if ours:
                victim = dice.choice(ours)
                try:
                    os.kill(victim.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed[victim.name] = killed.get(victim.name, 0) + 1
        commands = sum(done.result() for done in clients)
    print(f"{commands} commands, killed: {killed}")
    assert killed and commands > CLIENTS
    strange = [error for error in told if not any(f'"code":"{code}"' in error for code in CODES)]
    assert strange == []
    host.check()
    host.works()
    host.cleans_up()


@pytest.fixture(autouse=True)
def nothing_for_the_next(host: Host) -> Iterator[None]:
    """What a test that failed has left is not in the way of others."""
    yield
    host.kill_others(0)
    host.agent.run("vm", "clean", "--all", timeout=120)


def is_locked(path: pathlib.Path) -> bool:
    """Whether somebody holds a lock on a file."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_stopped_shim_holds_nobody_up_for_ever(host: Host) -> None:
    """List answers at once; stop and clean with vm_busy, within the time that they give a shim. Then it goes on."""
    agent = host.agent
    vm = agent.create("--mem", "64")
    shim = shim_of(agent, vm)
    os.kill(shim, signal.SIGSTOP)
    try:
        assert [v["id"] for v in agent.run("vm", "list", check=True, timeout=10).lines()] == [vm]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            verbs = [("stop", "--vm", vm), ("clean", "--vm", vm), ("stop", "--vm", vm), ("show", "--vm", vm)]
            results = list(pool.map(lambda verb: agent.run("vm", *verb, timeout=60), verbs))
        assert [result.error()["code"] for result in results[:3]] == ["vm_busy"] * 3
        assert results[3].code == 0
    finally:
        os.kill(shim, signal.SIGCONT)
    # It obeys the stop that it was asked for, now that it can.
    eventually(lambda: shim not in host.processes())
    host.check()
    host.works()
    host.cleans_up()


def test_a_vm_that_is_ending_holds_up_who_needs_it_alone(host: Host) -> None:
    """Here its shim stands between taking its socket away and its end: a list answers at once, a run comes after it."""
    agent = host.agent
    created = agent.run("vm", "create", "--language", "python", env={"ERA_FAULT": "end.unlinked=stop"}, check=True)
    vm = str(created.json()["id"])
    shim = shim_of(agent, vm)
    try:
        (init,) = (pid for pid, (process, _) in host.processes().items() if process.name == "era-init")
        os.kill(init, signal.SIGKILL)
        eventually(lambda: Process(shim).name == "era-fault")
        assert [v["status"] for v in agent.run("vm", "list", "--all", check=True, timeout=8).lines()] == ["stopped"]
        run = agent.start("vm", "run", "--vm", vm, "--cmd", "true", stdout=subprocess.DEVNULL)
        eventually(lambda: is_locked(agent.state / "vms" / vm / "op.lock"))
    finally:
        os.kill(shim, signal.SIGCONT)
    assert run.wait(timeout=30) == 0
    assert host.check()[vm]["status"] == "ready"
    host.cleans_up()


def test_a_command_does_not_start_without_its_files(host: Host) -> None:
    """Its VM ends when it has been given them, and would be started anew: not for this command."""
    agent = host.agent
    vm = agent.create("--mem", "64")
    run = agent.start("vm", "run", "--vm", vm, "--file", "/etc/passwd", "--cmd", "echo started", stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE, env={**agent.env, "ERA_FAULT": "run.staged=stop"})
    eventually(lambda: Process(run.pid).name == "era-fault")
    assert agent.run("vm", "stop", "--vm", vm, check=True)
    assert agent.sh(vm, "ls /workspace/in").text == ""
    os.kill(run.pid, signal.SIGCONT)
    out, error = run.communicate(timeout=30)
    assert (run.returncode, out) == (125, b"") and b'"code":"vm_busy"' in error
    assert agent.run("vm", "logs", "--vm", vm).text == ""
    host.cleans_up()


def test_a_command_that_is_stopped_holds_nobody_up_for_ever(host: Host) -> None:
    """Here one that has the VM's lock, half way through a stop."""
    agent = host.agent
    vm = agent.create("--mem", "64")
    stop = agent.start("vm", "stop", "--vm", vm, env={**agent.env, "ERA_FAULT": "stop.seized=stop"}, stdout=subprocess.DEVNULL)
    os.waitid(os.P_PID, stop.pid, os.WSTOPPED | os.WNOWAIT)
    assert agent.run("vm", "list", check=True, timeout=10).lines()[0]["status"] == "ready"
    assert agent.run("vm", "clean", "--vm", vm, timeout=60).error()["code"] == "vm_busy"
    stop.send_signal(signal.SIGCONT)
    assert stop.wait(timeout=30) == 0
    assert host.check()[vm]["status"] == "stopped"
    host.cleans_up()


def test_a_temp_that_is_killed_ends_its_vm(host: Host) -> None:
    """At once and by itself; one list later it is not on record either."""
    temp = host.agent.start("vm", "temp", "--language", "python", "--cmd", "sleep 1000")
    eventually(lambda: any(process.name == "era-run" for process, _ in host.processes().values()))
    temp.kill()
    temp.wait()
    eventually(lambda: host.processes() == {})
    assert host.check() == {}
