# SPDX-License-Identifier: Apache-2.0
"""A state.db that is torn, corrupt or of a newer version, and clocks that jump."""

from __future__ import annotations

import pathlib
import random
import shutil
import sqlite3
import time
from collections.abc import Callable

import pytest

from tests.conftest import Agent
from tests.crash.host import Host

NOW = int(time.time())


@pytest.fixture(scope="module")
def kept(host: Host) -> list[str]:
    """VMs on record, all of it in the database itself: the log is empty."""
    vms = [host.agent.create("--mem", "64") for _ in range(3)]
    for vm in vms:
        host.agent.run("vm", "run", "--vm", vm, "--cmd", "true", check=True)
        host.agent.run("vm", "stop", "--vm", vm, check=True)
    with sqlite3.connect(host.state / "state.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return vms


def damaged(host: Host, change: Callable[[pathlib.Path], None], *words: str) -> dict[str, object] | None:
    """What a command says of a database to which something was done, which is then undone."""
    database, whole = host.state / "state.db", host.state.parent / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for file in host.state.glob("state.db*"):
        shutil.copy2(file, whole)
    change(database)
    result = host.agent.run(*(words or ("vm", "list", "--all")), timeout=60)
    for file in host.state.glob("state.db*"):
        file.unlink()
    for file in whole.iterdir():
        shutil.copy2(file, host.state)
    return None if result.code == 0 else result.error()


def cut(length: int) -> Callable[[pathlib.Path], None]:
    """Only the beginning of it is there."""
    def change(path: pathlib.Path) -> None:
        with path.open("r+b") as file:
            file.truncate(length)
    return change


@pytest.mark.parametrize("length", [1, 16, 99, 100, 511, 4095, 4096, 8191, 8192, 12288])
def test_a_torn_database_is_told_and_not_touched(host: Host, kept: list[str], length: int) -> None:
    """state_corrupt; with the file back all is as it was."""
    error = damaged(host, cut(length))
    assert error is not None and error["code"] == "state_corrupt"
    assert list(host.check()) == kept


@pytest.mark.parametrize("keep", [False, True], ids=["gone", "empty"])
def test_a_database_that_is_lost_takes_no_volume_with_it(host: Host, kept: list[str], keep: bool) -> None:
    """Whose record is not found is not taken for a remainder when no record is found at all."""
    vm = host.agent.create("--mem", "64", "--persist", "--disk", "16")
    host.agent.sh(vm, "echo precious > /workspace/persist/text")
    host.agent.run("vm", "stop", "--vm", vm, check=True)

    def lose(path: pathlib.Path) -> None:
        for file in host.state.glob("state.db*"):
            file.unlink()
        if keep:
            path.touch()

    for words in (("vm", "list", "--all"), ("vm", "create", "--language", "python"), ("vm", "clean", "--all")):
        error = damaged(host, lose, *words)
        assert error is not None and error["code"] == "state_corrupt" and "put it back" in str(error["message"])
    assert list(host.check()) == [*kept, vm]
    assert host.agent.sh(vm, "cat /workspace/persist/text").text == "precious\n"
    host.agent.clean(vm)


@pytest.mark.parametrize("page", range(8))
def test_random_bytes_in_a_page_are_told_or_do_not_matter(host: Host, kept: list[str], page: int) -> None:
    """Neither a crash nor a record that nobody wrote."""
    def change(path: pathlib.Path) -> None:
        with path.open("r+b") as file:
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(4096))
    for words in (("vm", "list", "--all"), ("vm", "show", "--vm", kept[0]), ("volume", "list")):
        error = damaged(host, change, *words)
        assert error is None or error["code"] == "state_corrupt"
    assert list(host.check()) == kept


def test_a_newer_database_is_left_alone(host: Host, kept: list[str]) -> None:
    """state_too_new, for reading and for writing."""
    def change(path: pathlib.Path) -> None:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version=99")
    for words in (("vm", "list"), ("vm", "create", "--language", "python"), ("vm", "clean", "--vm", kept[0])):
        error = damaged(host, change, *words)
        assert error is not None and error["code"] == "state_too_new"
    assert list(host.check()) == kept


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_log_that_was_cut_short_loses_its_end_only(host: Host, kept: list[str], share: float) -> None:
    """As after a power failure: what was committed before is there, and the next command works."""
    agent = host.agent
    vm = agent.create("--mem", "64")
    agent.run("vm", "stop", "--vm", vm, check=True)

    def change(path: pathlib.Path) -> None:
        log = path.with_name("state.db-wal")
        cut(int(log.stat().st_size * share))(log)

    assert damaged(host, change, "vm", "show", "--vm", kept[0]) is None
    assert list(host.check()) == [*kept, vm]
    agent.clean(vm)
    host.works()


# Seconds by which the clock is off: in 1970, yesterday, tomorrow, a hundred years ahead.
JUMPS = [10 - NOW, -86400, 86400, 100 * 365 * 86400]


def off(seconds: int) -> dict[str, str]:
    """A command whose clock is off."""
    return {"ERA_FAULT_CLOCK": str(seconds)}


def test_vms_of_a_clock_that_jumps(host: Host) -> None:
    """Each has an id of its own, and lists go by the time that the clock said."""
    agent, words = host.agent, ("vm", "create", "--language", "python", "--mem", "64")
    made = [agent.run(*words, env=off(seconds), check=True).json() for seconds in [*JUMPS, *JUMPS]]
    assert len({vm["id"] for vm in made}) == len(made)
    listed = [vm for vm in agent.run("vm", "list", check=True).lines() if vm["id"] in {m["id"] for m in made}]
    times = [vm["created_at"] for vm in listed]
    assert len(listed) == len(made) and times == sorted(times)
    for vm in made:
        assert agent.sh(vm["id"], "echo here").text == "here\n"
        agent.clean(vm["id"])
    host.check()


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_timeout_does_not_go_by_a_clock_that_jumps(agent: Agent, vm: str, seconds: int) -> None:
    """It is of monotonic time, in the shim; and the run is on record, with an id of its own."""
    begun = time.monotonic()
    words = ("vm", "run", "--vm", vm, "--timeout", "0.5", "--cmd", "sleep 1000")
    runs = [agent.run(*words, env=off(seconds)).json() for _ in range(2)]
    assert [run["verdict"] for run in runs] == ["timed_out"] * 2 and runs[0]["run"] != runs[1]["run"]
    assert time.monotonic() - begun < 20
    assert agent.run("vm", "run", "--vm", vm, "--cmd", "true", check=True).json()["verdict"] == "exited"
    assert agent.status(vm) == "ready"
