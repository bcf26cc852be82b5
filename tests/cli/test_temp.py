# SPDX-License-Identifier: Apache-2.0
"""temp: create, run with live output, clean; whatever happens in between."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess

import pytest

from tests.conftest import SLOW, Agent, eventually, loop_devices_of, processes_of

TEMP = ("vm", "temp", "--language", "python")


def nothing_is_left(agent: Agent) -> None:
    """No record, no folder, no process, no volume, no loop device."""
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
    assert list((agent.state / "vms").iterdir()) == []
    assert processes_of(agent.state) == []
    assert agent.run("volume", "list", check=True).text == ""
    assert loop_devices_of(agent.state) == []


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -TERM $$", 143), ("no-such-program", 127)])
def test_temp_prints_the_command_and_leaves_nothing(agent: Agent, end: str, code: int) -> None:
    """Its output only, and its status."""
    result = agent.run(*TEMP, "--cmd", f"echo out; echo err >&2; exec 2>/dev/null; {end}")
    assert (result.code, result.stdout, result.stderr) == (code, b"out\n", b"err\n")
    nothing_is_left(agent)


def test_temp_that_times_out(agent: Agent) -> None:
    """124, and what it printed."""
    result = agent.run(*TEMP, "--timeout", str(SLOW / 2), "--cmd", "echo begun; sleep 1000")
    assert (result.code, result.stdout, result.stderr) == (124, b"begun\n", b"")
    nothing_is_left(agent)


def test_temp_takes_the_options_of_create_and_of_run(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Also a volume of its own, which goes with it."""
    (tmp_path / "hello.js").write_text("console.log(process.env.A, process.cwd())\n")
    words = ("vm", "temp", "--language=node", "--mem=128", "--persist", "--disk", "16", "--env", "A=b", "--workdir", "/tmp",
             "--file", str(tmp_path / "hello.js"), "--stdin")
    result = agent.run(*words, "--cmd", "node /workspace/in/hello.js; test -d /workspace/persist; cat", input=b"input\n")
    assert (result.code, result.stdout, result.stderr) == (0, b"b /tmp\ninput\n", b"")
    nothing_is_left(agent)


def test_temp_keeps_a_volume_that_was_there_before(agent: Agent) -> None:
    """It belongs to the caller."""
    first = agent.create("--persist", "--disk", "16")
    agent.sh(first, "echo kept > /workspace/persist/file")
    agent.clean(first, "--keep-persist")
    try:
        assert agent.run(*TEMP, "--volume", first, "--cmd", "cat /workspace/persist/file", check=True).text == "kept\n"
        assert [v["name"] for v in agent.run("volume", "list", check=True).lines()] == [first]
    finally:
        agent.run("volume", "remove", first, check=True)
    nothing_is_left(agent)


def test_temp_that_cannot_be_made_or_begun(agent: Agent, tmp_path: pathlib.Path) -> None:
    """One error, 125 when it is no matter of usage, and nothing of the VM."""
    result = agent.run(*TEMP, "--image", "no/such:1", "--cmd", "true")
    assert (result.code, result.error()["code"]) == (125, "image_not_found")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(5 << 30)
    result = agent.run(*TEMP, "--file", str(tmp_path / "huge"), "--cmd", "true")
    assert (result.code, result.error()["code"], result.error()["field"]) == (125, "file_too_large", "file")
    assert agent.run(*TEMP).error()["field"] == "cmd"
    nothing_is_left(agent)


@pytest.mark.parametrize(
    ("signo", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGQUIT, 131), (signal.SIGHUP, 137)])
def test_temp_is_cleaned_when_it_is_interrupted(agent: Agent, signo: signal.Signals, code: int) -> None:
    """The command gets the signal (a hang-up kills it), then the VM goes."""
    run = agent.start(*TEMP, "--cmd", "echo ready; exec sleep 1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stderr is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signo)
    assert run.wait(30) == code
    assert run.stderr.read() == b""
    nothing_is_left(agent)


def test_temp_whose_command_ignores_interrupts(agent: Agent) -> None:
    """The second one kills."""
    run = agent.start(*TEMP, "--cmd", "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done", stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == b"no\n"
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 137
    nothing_is_left(agent)


def test_temp_interrupted_while_the_vm_is_made(agent: Agent) -> None:
    """At whatever instant; from when on signals are heard is not told, before that they end the program.

    exec, since dash loses an interrupt that comes while it forks.
    """
    for step in range(12):
        run = agent.start(*TEMP, "--cmd", "exec sleep 1000", stdout=subprocess.DEVNULL)
        try:
            run.wait(timeout=0.004 * step)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
        assert run.wait(60) in (130, -signal.SIGINT)
        nothing_is_left(agent)


def test_temp_whose_reader_goes_away(agent: Agent) -> None:
    """As with `head`."""
    run = agent.start(*TEMP, "--cmd", "yes", stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"y\n"
    run.stdout.close()
    assert run.wait(30) == 141
    nothing_is_left(agent)


@pytest.mark.parametrize("more", [(), ("--persist", "--disk", "16")], ids=["", "with a volume"])
def test_temp_that_is_killed_takes_its_vm_along(fresh_state: Agent, more: tuple[str, ...]) -> None:
    """Nobody hears kill -9, but the VM is bound to its creator: it ends by itself, and one list later is on no record."""
    agent = fresh_state
    run = agent.start(*TEMP, *more, "--cmd", "echo ready; sleep 1000", stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.kill()
    run.wait()
    eventually(lambda: processes_of(agent.state) == [])
    nothing_is_left(agent)


def test_temp_outlives_the_working_directory_it_was_called_in(agent: Agent, tmp_path: pathlib.Path) -> None:
    """And one that is gone already."""
    gone = tmp_path / "gone"
    gone.mkdir()
    words = [str(agent.program.resolve()), *TEMP, "--cmd", "pwd"]
    script = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
    done = subprocess.run(["sh", "-ec", script, "sh", str(gone), *words], env=agent.env, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"/workspace\n", b"")
    assert not os.path.exists(gone)
    nothing_is_left(agent)
