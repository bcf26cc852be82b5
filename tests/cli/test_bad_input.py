# SPDX-License-Identifier: Apache-2.0
"""Wrong input of every kind: one clear error with its code and its field, and nothing half done."""

from __future__ import annotations

import os
import pathlib
import shutil
import sqlite3
import subprocess

import pytest

from tests.conftest import Agent

CREATE = ("vm", "create", "--language", "python")

USAGE = [
    (("vm", "frobnicate"), "command"),
    (("vmm", "list"), "command"),
    ((), ""),
    (("vm", "create"), "language"),
    (("vm", "create", "--language"), "language"),
    ((*CREATE, "--langauge", "x"), "langauge"),
    ((*CREATE, "--persist=yes"), "persist"),
    ((*CREATE, "--cpu", "1", "--cpu", "2"), "cpu"),
    ((*CREATE, "extra"), "arguments"),
    ((*CREATE, "-x"), "-x"),
    (("vm", "run", "--cmd", "true"), "vm"),
    (("vm", "cp", "one"), "arguments"),
    (("vm", "cp", "/a", "/b"), "arguments"),
    (("vm", "exec", "--cmd", "true"), "vm"),
    (("vm", "stop",), "vm"),
    (("vm", "list", "--output", "xml"), "output"),
    (("vm", "list", "--status", "odd"), "status"),
    (("image", "build"), "arguments"),
    (("completion", "zsh"), "arguments"),
    (("--log-level", "loud", "version"), "log-level"),
    (("vm", "create", "--language", "ruby"), "language"),
    ((*CREATE, "--network", "some"), "network"),
    ((*CREATE, "--image", "UPPER CASE"), "image"),
    ((*CREATE, "--image", "../../etc"), "image"),
    ((*CREATE, "--launcher", "docker"), "launcher"),
    ((*CREATE, "--volume", "../x"), "volume"),
    ((*CREATE, "--env", "novalue"), "env"),
    ((*CREATE, "--env", "1A=x"), "env"),
    (("vm", "run", "--vm", "../../x", "--cmd", "true"), "vm"),
    (("vm", "show", "--vm", "python-1;rm"), "vm"),
    (("image", "build", "cobol"), "language"),
    (("image", "remove", "/"), "image"),
    (("volume", "remove", ".."), "volume"),
]

NUMBERS = [
    (option, value)
    for option in ("cpu", "mem", "disk", "pids")
    for value in ("0", "-1", "1.5", "many", "", "99999999999999999999", "4294967296", "1e3", " 1", "0x10")
]


def nothing_was_made(agent: Agent) -> None:
    """No record, no folder, no volume."""
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
    assert list((agent.state / "vms").iterdir()) == []
    assert agent.run("volume", "list", check=True).text == ""


@pytest.mark.parametrize(("args", "field"), USAGE)
def test_wrong_usage(agent: Agent, args: tuple[str, ...], field: str) -> None:
    """Exit 2, and the field is named."""
    result = agent.run(*args)
    assert (result.code, result.error().get("field", "")) == (2, field), result
    nothing_was_made(agent)


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_wrong_numbers(agent: Agent, option: str, value: str) -> None:
    """Zero, negative, huge, fractional, non-numeric."""
    result = agent.run(*CREATE, f"--{option}", value)
    assert (result.code, result.error()["field"]) == (2, option), result


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e9", "604801", ".", "1.0001", ""])
def test_wrong_timeouts(agent: Agent, vm: str, value: str) -> None:
    """More than nothing, at most a week."""
    result = agent.run("vm", "run", "--vm", vm, "--cmd", "true", "--timeout", value)
    assert (result.code, result.error()["field"]) == (2, "timeout")


def test_unknown_things(agent: Agent) -> None:
    """VM, run, image, volume: each not found by its own code."""
    assert agent.run("vm", "run", "--vm", "python-1", "--cmd", "true").error()["code"] == "vm_not_found"
    assert agent.run("vm", "run", "--vm", "python-1", "--cmd", "true").code == 125
    error = agent.run(*CREATE, "--image", "no/such:1").error()
    assert (error["code"], error["field"]) == ("image_not_found", "image")
    assert agent.run("image", "remove", "no/such:1").error()["code"] == "image_not_found"
    assert agent.run("volume", "remove", "nothing").error()["code"] == "volume_not_found"
    nothing_was_made(agent)


def test_files_that_cannot_be_staged(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Missing, a folder, a FIFO, larger than the VM holds: known before a VM is made for it."""
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(5 << 30)
    cases = [("missing", "file_not_found"), (".", "not_a_file"), ("fifo", "not_a_file"), ("huge", "file_too_large")]
    for name, code in cases:
        path = str(tmp_path / name)
        result = agent.run("vm", "temp", "--language", "python", "--file", path, "--cmd", "true")
        assert (result.code, result.error()["code"]) == (125, code), result
    nothing_was_made(agent)


@pytest.mark.parametrize("command", ["", "   ", "x" * (1 << 20)])
def test_commands_that_are_none(agent: Agent, vm: str, command: str) -> None:
    """Empty, and larger than the kernel takes; the second is refused by the kernel itself beyond 128 KiB a word."""
    if len(command) > 131071:
        with pytest.raises(OSError):
            agent.run("vm", "run", "--vm", vm, "--cmd", command)
        return
    result = agent.run("vm", "run", "--vm", vm, "--cmd", command)
    assert (result.code, result.error()["field"]) == (2, "cmd")


def test_bytes_that_are_not_utf8_pass_through_a_command(agent: Agent, vm: str) -> None:
    """A command line is bytes; output is bytes; JSON stays JSON."""
    done = subprocess.run(
        [agent.program, b"vm", b"exec", b"--vm", vm.encode(), b"--cmd", b"printf '\xff\xfe'"],
        env=agent.env, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"\xff\xfe")
    result = subprocess.run([agent.program, b"vm", b"show", b"--vm", b"\xff\xfe"], env=agent.env, capture_output=True)
    assert result.returncode == 2
    result.stderr.decode("utf-8")


def in_mount_namespace(agent: Agent, script: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the agent after some mounting that nobody else sees."""
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", script + '; shift; exec "$@"', "sh", str(agent.state), str(agent.program), *args],
        env=agent.env, capture_output=True)


def error_code(done: subprocess.CompletedProcess[bytes]) -> str:
    """The code of its one error."""
    import json

    assert done.returncode != 0 and done.stdout == b"", done
    (line,) = done.stderr.splitlines()
    return str(json.loads(line)["code"])


def test_a_state_directory_that_is_read_only(fresh_state: Agent) -> None:
    """Named, so there is no falling back to another."""
    script = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"'
    assert error_code(in_mount_namespace(fresh_state, script, *CREATE)) == "state_dir_unusable"


def test_a_state_directory_that_is_full(fresh_state: Agent) -> None:
    """Not a byte left for the database."""
    script = 'mount -t tmpfs -o size=64k,mode=0700 none "$1"; head -c 1M /dev/zero > "$1/fill" 2>/dev/null || true'
    assert error_code(in_mount_namespace(fresh_state, script, *CREATE)) in ("disk_full", "state_dir_unusable")


def test_a_state_directory_of_somebody_else(fresh_state: Agent) -> None:
    """Root may write it, and does not."""
    os.chown(fresh_state.state, 65534, 65534)
    try:
        assert fresh_state.run(*CREATE).error()["code"] == "state_dir_unusable"
    finally:
        os.chown(fresh_state.state, os.geteuid(), os.getegid())


def test_a_state_directory_of_a_newer_version(fresh_state: Agent) -> None:
    """It is left alone."""
    fresh_state.run("vm", "list", check=True)
    with sqlite3.connect(fresh_state.state / "state.db") as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 999")
    database.close()
    assert fresh_state.run(*CREATE).error()["code"] == "state_too_new"
    with sqlite3.connect(fresh_state.state / "state.db") as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()


@pytest.mark.parametrize("damage", [b"this is no database" * 100, os.urandom(20000)])
def test_a_state_file_that_is_corrupt(fresh_state: Agent, damage: bytes) -> None:
    """It is told, and not overwritten."""
    (fresh_state.state / "state.db").write_bytes(damage)
    assert fresh_state.run("vm", "list").error()["code"] == "state_corrupt"
    assert (fresh_state.state / "state.db").read_bytes() == damage
    (fresh_state.state / "state.db").unlink()


def test_an_image_that_is_corrupt(fresh_state: Agent) -> None:
    """Its description is nonsense, or its root is gone."""
    image = next(path for path in (fresh_state.state / "images").iterdir() if "python" in path.name)
    good = (image / "image.json").read_bytes()
    (image / "image.json").unlink()
    (image / "image.json").write_bytes(b"{]")
    assert fresh_state.run(*CREATE).error()["code"] == "image_corrupt"
    (image / "image.json").write_bytes(good)
    shutil.rmtree(image / "rootfs")
    assert fresh_state.run(*CREATE).error()["code"] == "image_corrupt"
    nothing_was_made(fresh_state)


def test_a_default_state_directory_is_found(tmp_path: pathlib.Path) -> None:
    """Without a name the first usable candidate is taken, mode 0700."""
    from tests.conftest import BUILD

    script = 'mount -t tmpfs none /var/lib; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script + "; true", "sh", str(BUILD / "src/main/agent"), "vm", "list"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True)
    assert done.returncode == 0, done
