# SPDX-License-Identifier: Apache-2.0
"""Wrong input of every kind: one clear error with its code and its field, and nothing half done."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, copy_programs, loop_devices_of, processes_of

CREATE = ("vm", "create", "--language", "python")
TEMP = ("vm", "temp", "--language", "python", "--cmd")

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
    (("vm",), "command"),
    (("vm", "run", "--vm", "python-1"), "cmd"),
    (("vm", "run", "--vm", "", "--cmd", "true"), "vm"),
    (("vm", "run", "--vm", "python-1", "--cmd", "true", "--stdin=yes"), "stdin"),
    (("vm", "run", "--vm", "python-1", "--cmd", "true", "--workdir", "relative"), "workdir"),
    (("vm", "run", "--vm", "python-1", "--cmd", "true", "--env", "=x"), "env"),
    (("vm", "exec", "--vm", "python-1", "--all", "--cmd", "true"), "vm"),
    (("vm", "exec", "--vm", "python-1", "--cmd", "true", "--", "true"), "cmd"),
    (("vm", "exec", "--vm", "python-1", "--"), "cmd"),
    (("vm", "exec", "--vm", "python-1", "--", ""), "cmd"),
    (("vm", "shell", "--vm", "python-1", "--cmd", ""), "cmd"),
    (("vm", "temp", "--cmd", "true"), "language"),
    (("vm", "temp", "--language", "python"), "cmd"),
    (("vm", "temp", "--language", "python", "--cmd", " "), "cmd"),
    (("vm", "clean", "--vm", "python-1", "--all"), "vm"),
    (("vm", "clean", "--all=yes"), "all"),
    (("vm", "logs",), "vm"),
    (("vm", "cp", "python-1:/a", "python-1:/b"), "arguments"),
    (("vm", "cp", "python-1:relative", "/tmp/x"), "path"),
    (("vm", "cp", "one", "python-1:/two", "three"), "arguments"),
    (("image", "pull", "NOT A REFERENCE"), "image"),
    (("image", "import", "/etc/passwd", "--name", "NOT A REFERENCE"), "name"),
    (("--state-dir", "", "vm", "list"), "state_dir"),
    (("--state-dir",), "state-dir"),
]

NUMBERS = [
    (option, value)
    for option in ("cpu", "mem", "disk", "pids")
    for value in ("0", "-1", "+1", "1.5", "many", "", "99999999999999999999", "18446744073709551617", "4294967296",
                  "4294967295", "1e3", " 1", "1 ", "0x10", "1\n", "\u0661")
] + [("cpu", "257"), ("mem", "31"), ("mem", "1048577"), ("disk", "15"), ("disk", "1048577"), ("pids", "15"),
     ("pids", "65537")]


def nothing_was_made(agent: Agent) -> None:
    """No record, no folder, no volume, no process, no loop device."""
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
    assert list((agent.state / "vms").iterdir()) == []
    assert agent.run("volume", "list", check=True).text == ""
    assert list((agent.state / "volumes").iterdir()) == []
    assert processes_of(agent.state) == [] and loop_devices_of(agent.state) == []


@pytest.mark.parametrize(("args", "field"), USAGE)
def test_wrong_usage(agent: Agent, args: tuple[str, ...], field: str) -> None:
    """Exit 2, and the field is named."""
    result = agent.run(*args)
    assert (result.code, result.error().get("field", "")) == (2, field), result
    nothing_was_made(agent)


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_wrong_numbers(agent: Agent, option: str, value: str) -> None:
    """Zero, negative, huge, fractional, non-numeric."""
    for command in (CREATE, (*TEMP, "true")):
        result = agent.run(*command, f"--{option}", value)
        assert (result.code, result.error()["field"]) == (2, option), result
    nothing_was_made(agent)


@pytest.mark.parametrize("value", ["0", "0.0", "0.000", "-1", "soon", "1e9", "604801", "604800.001", ".", ".5", "1.", "1.0001",
                                   "", "99999999999999999999", "nan", "inf", "1s"])
def test_wrong_timeouts(agent: Agent, value: str) -> None:
    """More than nothing, at most a week."""
    for command in (("vm", "run", "--vm", "python-1", "--cmd", "true"), ("vm", "exec", "--vm", "python-1", "--cmd", "true"),
                    (*TEMP, "true")):
        result = agent.run(*command, "--timeout", value)
        assert (result.code, result.error()["field"]) == (2, "timeout")


def test_unknown_things(agent: Agent) -> None:
    """VM, run, image, volume: each not found by its own code."""
    assert agent.run("vm", "run", "--vm", "python-1", "--cmd", "true").error()["code"] == "vm_not_found"
    assert agent.run("vm", "run", "--vm", "python-1", "--cmd", "true").code == 125
    error = agent.run(*CREATE, "--image", "no/such:1").error()
    assert (error["code"], error["field"]) == ("image_not_found", "image")
    assert agent.run("image", "remove", "no/such:1").error()["code"] == "image_not_found"
    assert agent.run("volume", "remove", "nothing").error()["code"] == "volume_not_found"
    assert agent.run(*CREATE, "--volume", "nothing").error()["code"] == "volume_not_found"
    assert agent.run("image", "import", "/no/such").error()["code"] == "file_not_found"
    for words, code in ((("exec", "--cmd", "true"), 125), (("shell",), 125), (("show",), 1), (("logs",), 1), (("stop",), 1),
                        (("clean",), 1)):
        result = agent.run("vm", words[0], "--vm", "python-1", *words[1:])
        assert (result.code, result.error()["code"]) == (code, "vm_not_found")
    nothing_was_made(agent)


def test_unknown_runs(agent: Agent, vm: str) -> None:
    """None yet, another, and a word that is none."""
    for words, code, status in (((), "run_not_found", 1), (("--run", "r1"), "run_not_found", 1),
                                (("--run", "../../../state.db"), "invalid_argument", 2)):
        result = agent.run("vm", "logs", "--vm", vm, *words)
        assert (result.code, result.error()["code"]) == (status, code)


def test_files_that_cannot_be_staged(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Missing, a folder, a FIFO, larger than the VM holds: known before a VM is made for it."""
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(5 << 30)
    cases = [("missing", "file_not_found"), (".", "not_a_file"), ("fifo", "not_a_file"), ("huge", "file_too_large")]
    for name, code in cases:
        path = str(tmp_path / name)
        result = agent.run("vm", "temp", "--language", "python", "--file", path, "--cmd", "true")
        error = result.error()
        assert (result.code, error["code"], error["field"]) == (125, code, "file"), result
    nothing_was_made(agent)


def test_two_files_of_one_name_cannot_be_staged(agent: Agent, tmp_path: pathlib.Path) -> None:
    """One would silently win."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").touch()
    result = agent.run(*TEMP, "true", "--file", str(tmp_path / "a" / "same"), "--file", str(tmp_path / "b" / "same"))
    assert (result.code, result.error()["field"]) == (2, "file")
    nothing_was_made(agent)


@pytest.fixture
def as_nobody() -> Iterator[Callable[..., subprocess.CompletedProcess[bytes]]]:
    """Runs the program as an ordinary user, with a copy that he can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        program = copy_programs(pathlib.Path(folder))
        os.mkdir(f"{folder}/home")
        os.chown(f"{folder}/home", 65534, 65534)

        def run(*args: str) -> subprocess.CompletedProcess[bytes]:
            words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(program), *args]
            env = {"PATH": os.environ["PATH"], "HOME": f"{folder}/home", "AGENT_STATE_DIR": f"{folder}/home/state"}
            return subprocess.run(words, env=env, cwd="/", capture_output=True, stdin=subprocess.DEVNULL, timeout=60)

        yield run


def test_a_file_that_may_not_be_read(as_nobody: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """It is said before anything is done."""
    for path in ("/etc/shadow", "/root/x"):
        done = as_nobody(*TEMP, "true", "--file", path)
        error = json.loads(done.stderr)
        assert (done.returncode, error["code"], error["field"], done.stdout) == (125, "file_unreadable", "file", b"")


def test_a_state_directory_that_may_not_be_used(
    agent: Agent, as_nobody: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    """Root's, seen by somebody else; and that somebody's own is made for him."""
    assert error_code(as_nobody("--state-dir", str(agent.state), "vm", "list")) == "state_dir_unusable"
    assert error_code(as_nobody("--state-dir", "/etc/agent", "vm", "list")) == "state_dir_unusable"
    assert as_nobody("vm", "list").returncode == 0


@pytest.mark.parametrize("command", ["", "   ", " \t\n"])
def test_commands_that_are_none(agent: Agent, vm: str, command: str) -> None:
    """Said by every verb that takes one."""
    for verb in ("run", "exec", "shell"):
        result = agent.run("vm", verb, "--vm", vm, "--cmd", command)
        assert (result.code, result.error()["field"]) == (2, "cmd")


def test_commands_that_are_very_long(agent: Agent, vm: str) -> None:
    """One word may have 128 KiB less a byte: more is refused by the kernel. Together there is a limit of ours."""
    longest = "echo " + "x" * (131071 - 5)
    assert len(agent.sh(vm, longest).stdout) == 131071 - 5 + 1
    with pytest.raises(OSError):
        agent.run("vm", "run", "--vm", vm, "--cmd", longest + "x")
    for words in (["x" * 100000] * 2, ["x" * 100000] * 10, ["x"] * 2000):
        result = agent.run("vm", "exec", "--vm", vm, "--", "true", *words)
        assert (result.code, result.error()["field"]) == (2, "cmd")
    result = agent.run("vm", "exec", "--vm", vm, *(f"--env=A{n}={'x' * 1000}" for n in range(100)), "--cmd", "true")
    assert (result.code, result.error()["field"]) == (2, "env")
    assert agent.status(vm) == "ready"


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


@pytest.mark.parametrize("damage", [b"this is no database" * 100, bytes(range(1, 256)) * 80, b"SQLite format 3\0" + b"\xa5" * 4080],
                         ids=["text", "bytes", "header"])
def test_a_state_file_that_is_corrupt(fresh_state: Agent, damage: bytes) -> None:
    """It is told, and not overwritten."""
    (fresh_state.state / "state.db").write_bytes(damage)
    assert fresh_state.run("vm", "list").error()["code"] == "state_corrupt"
    assert (fresh_state.state / "state.db").read_bytes() == damage
    (fresh_state.state / "state.db").unlink()


@pytest.mark.parametrize("size", [512, 4095, 4096, 20000])
def test_a_state_file_that_was_cut(fresh_state: Agent, size: int) -> None:
    """As by a crash of another file system: it is told, whatever is left."""
    fresh_state.run("vm", "list", check=True)
    with sqlite3.connect(fresh_state.state / "state.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    os.truncate(fresh_state.state / "state.db", size)
    for words in (("vm", "list"), CREATE, ("vm", "clean", "--all")):
        assert fresh_state.run(*words).error()["code"] == "state_corrupt"
    assert list((fresh_state.state / "vms").iterdir()) == []
    for path in fresh_state.state.glob("state.db*"):
        path.unlink()


def image_of(agent: Agent, language: str) -> pathlib.Path:
    """Where an image is."""
    return next(path for path in (agent.state / "images").iterdir() if language in path.name)


@pytest.mark.parametrize("text", ["{]", "", "[]", "{}", "null", '{"reference":1}', "\x00\xff"])
def test_an_image_whose_description_is_nonsense(fresh_state: Agent, text: str) -> None:
    """It is told, and neither used nor built anew over it; other images are not concerned."""
    description = image_of(fresh_state, "python") / "image.json"
    description.unlink()  # a hard link
    description.write_text(text)
    for words in (CREATE, (*CREATE, "--image", "agent/python:3.11"), (*TEMP, "true")):
        assert fresh_state.run(*words).error()["code"] == "image_corrupt"
    assert description.read_text() == text
    nothing_was_made(fresh_state)
    fresh_state.run("vm", "temp", "--language", "node", "--cmd", "true", check=True)


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_an_image_whose_root_is_none(fresh_state: Agent, kind: str) -> None:
    """Gone, or something else in its place."""
    root = image_of(fresh_state, "python") / "rootfs"
    shutil.rmtree(root)
    if kind == "file":
        root.touch()
    if kind == "link":
        root.symlink_to("/")
    result = fresh_state.run(*CREATE)
    assert (result.code, result.error()["code"]) == (1, "image_corrupt"), result
    nothing_was_made(fresh_state)


def test_a_disk_that_is_full_when_a_vm_is_made(fresh_state: Agent) -> None:
    """The database is there, and then there is room for nothing: no half of a VM, and all is well with room again."""
    script = """
        mkdir "$1.images"; mount --bind "$1/images" "$1.images"
        mount -t tmpfs -o size=1m,mode=0700 none "$1"
        mkdir "$1/images"; mount --bind "$1.images" "$1/images"
        run() { status=0; "$@" </dev/null || status=$?; echo "status $status"; }
        run "$2" vm list
        cat /dev/zero > "$1/fill" 2>/dev/null || true
        run "$2" vm create --language python
        run "$2" vm temp --language python --persist --cmd true
        ls "$1/vms" "$1/volumes"
        rm "$1/fill"
        run "$2" vm list --all
        run "$2" vm temp --language python --cmd 'echo well'
        umount -l "$1/images" "$1" "$1.images"
    """
    words = ["unshare", "-m", "sh", "-ec", script, "sh", str(fresh_state.state), str(fresh_state.program)]
    done = subprocess.run(words, env=fresh_state.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    vms, volumes = f"{fresh_state.state}/vms:", f"{fresh_state.state}/volumes:"
    assert done.stdout.split() == ["status", "0", "status", "1", "status", "125", vms, volumes, "status", "0", "well",
                                   "status", "0"], done
    errors = [json.loads(line)["code"] for line in done.stderr.splitlines()]
    assert errors == ["disk_full", "disk_full"]


@pytest.mark.parametrize("words", [("version",), ("--help",), ("vm", "list", "--output", "table"), ("doctor",),
                                   ("image", "list"), ("image", "list", "--output", "table"), ("completion", "bash")])
@pytest.mark.parametrize("stdout", [">/dev/full", ">&-"])
def test_a_stdout_that_cannot_be_written(agent: Agent, words: tuple[str, ...], stdout: str) -> None:
    """No success is claimed for what nobody could read."""
    done = subprocess.run(["sh", "-c", f'exec "$@" {stdout}', "sh", agent.program, *words], env=agent.env, capture_output=True,
                          timeout=60)
    assert (done.returncode, error_code(done)) == (1, "output_failed")


def test_a_log_file_that_cannot_be_written(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Named, and so not left out silently."""
    for path in (tmp_path, tmp_path / "no" / "file"):
        assert agent.run("--log-file", str(path), "version").error()["code"] == "log_file_unusable"


@pytest.mark.parametrize("path", ["/dev/null/x", "/etc/passwd", "/proc/none"])
def test_a_state_directory_that_cannot_be(agent: Agent, path: str) -> None:
    """By option and by environment alike."""
    for result in (agent.run("--state-dir", path, "vm", "list"), agent.run("vm", "list", env={"AGENT_STATE_DIR": path})):
        assert (result.code, result.error()["code"]) == (1, "state_dir_unusable")
    result = agent.run("--state-dir", path, *TEMP, "true")
    assert (result.code, result.error()["code"]) == (125, "state_dir_unusable")
