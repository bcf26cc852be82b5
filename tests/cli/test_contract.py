# SPDX-License-Identifier: Apache-2.0
"""What scripts rely on: shapes of output, exit statuses, where things are."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import subprocess
import threading

import pytest

from tests.conftest import BUILD, Agent, eventually

CREATED = ["level", "message", "id", "language", "rootfs", "cpu_count", "memoryMiB", "network", "persisted", "launcher",
           "created_at"]
RAN = ["level", "message", "vm", "run", "exit_code", "stdout", "stderr", "duration", "verdict", "timed_out", "truncated",
       "cpu_ms", "peak_memory_kib"]

LISTED = ["id", "language", "rootfs", "cpu_count", "memoryMiB", "network", "persisted", "launcher", "status", "created_at",
          "last_run_at"]


def test_create_prints_one_object_in_the_order_of_the_contract(agent: Agent) -> None:
    """And nothing on stderr, so that both streams together are one object."""
    result = agent.run("vm", "create", "--language=js", "--cpu=2", "--mem", "128", "--env", "A=b")
    created = result.json()
    try:
        assert result.stderr == b""
        assert list(created) == CREATED
        assert re.fullmatch(r"node-[0-9]{19}", created["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created["created_at"])
        assert (created["language"], created["cpu_count"], created["memoryMiB"]) == ("node", 2, 128)
        assert agent.sh(created["id"], "echo $A; node -p 6*7").text == "b\n42\n"
    finally:
        agent.clean(created["id"])


def test_run_prints_its_verdict_and_where_its_output_is(agent: Agent, vm: str) -> None:
    """The two paths always hold the latest run; each run keeps its own."""
    first = agent.run("vm", "run", "--vm", vm, "--cmd", "echo out; echo err >&2; exit 3")
    assert first.code == 3 and first.stderr == b""
    shown = first.json()
    assert list(shown) == RAN
    assert re.fullmatch(r"\d+\.\d{3}s", shown["duration"])
    assert (shown["verdict"], shown["exit_code"], shown["timed_out"]) == ("exited", 3, False)
    out, err = pathlib.Path(shown["stdout"]), pathlib.Path(shown["stderr"])
    assert out.is_absolute() and (out.name, err.name, out.parent.name) == ("stdout.log", "stderr.log", "out")
    assert (out.read_text(), err.read_text()) == ("out\n", "err\n")
    second = agent.run("vm", "run", "--vm", vm, "--cmd", "echo second", check=True).json()
    assert second["stdout"] == shown["stdout"] and out.read_text() == "second\n"
    assert (out.parent / "runs" / shown["run"] / "stdout.log").read_text() == "out\n"
    assert agent.run("vm", "logs", "--vm", vm, check=True).text == "second\n"
    assert agent.run("vm", "logs", "--vm", vm, "--run", shown["run"], "--stderr", check=True).text == "err\n"


def test_a_signal_is_told_as_a_shell_tells_it(agent: Agent, vm: str) -> None:
    """128+N, and the verdict."""
    result = agent.run("vm", "run", "--vm", vm, "--cmd", "kill -TERM $$")
    assert (result.code, result.json()["verdict"], result.json()["signal"]) == (143, "signaled", 15)


def test_files_are_staged_and_copied(agent: Agent, vm: str, tmp_path: pathlib.Path) -> None:
    """--file, and vm cp of a tree in and out again."""
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(bytes(range(256)) * 5000)
    (tree / "deep" / "link").symlink_to("file")
    (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o755)
    assert agent.run("vm", "run", "--vm", vm, "--file", str(tree / "run.sh"), "--cmd", "in/run.sh").code == 0
    agent.run("vm", "cp", str(tree), f"{vm}:/workspace/out", check=True)
    agent.run("vm", "cp", f"{vm}:/workspace/out/tree", str(tmp_path / "back"), check=True)
    subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "back"], check=True)
    missing = agent.run("vm", "cp", f"{vm}:/no/such", str(tmp_path / "x"))
    assert missing.error()["code"] == "file_not_found" and not (tmp_path / "x").exists()


def test_links_that_lead_out_of_a_copy_stay_behind(agent: Agent, vm: str, tmp_path: pathlib.Path) -> None:
    """What a guest hands back cannot point at the host."""
    agent.sh(vm, "mkdir /t; ln -s /etc/passwd /t/abs; ln -s ../../x /t/up; ln -s ok /t/in; echo ok > /t/ok")
    agent.run("vm", "cp", f"{vm}:/t", str(tmp_path / "t"), check=True)
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["in", "ok"]


def test_list_hides_what_is_stopped_unless_asked(agent: Agent, vm: str) -> None:
    """--all, --status, -q, --output."""
    agent.run("vm", "stop", "--vm", vm, check=True)
    assert vm not in agent.run("vm", "list", check=True).text
    assert vm in agent.run("vm", "list", "--all", "-q", check=True).text.split()
    (shown,) = agent.run("vm", "list", "--status", "stopped", check=True).lines()
    assert shown["id"] == vm and shown["status"] == "stopped"
    table = agent.run("vm", "list", "--all", "--output", "table", check=True).text.splitlines()
    assert table[0].split()[:3] == ["ID", "LANGUAGE", "STATUS"] and vm in table[1]
    assert agent.run("vm", "run", "--vm", vm, "--cmd", "true").code == 0, "a stopped VM is started"


def test_doctor_says_which_launcher_and_why(agent: Agent) -> None:
    """A launcher that works here, and a state for each check."""
    report = agent.run("doctor", check=True).json()
    assert report["launcher"] in ("namespace", "microvm") and report["reason"]
    assert {check["state"] for check in report["checks"]} <= {"ok", "warn", "missing"}


def test_a_launcher_that_is_asked_for_by_name_is_never_replaced(agent: Agent) -> None:
    """It is an error that says what is missing."""
    without = {"AGENT_KERNEL": "/nonexistent"}
    error = agent.run("vm", "create", "--language", "python", "--launcher", "microvm", env=without).error()
    assert error["code"] == "file_not_found"
    by_env = agent.run("vm", "create", "--language", "python", env={**without, "AGENT_LAUNCHER": "microvm"}).error()
    assert by_env["code"] == "file_not_found"
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""


def test_a_launcher_that_is_named_wins_over_the_environment(agent: Agent) -> None:
    """And an empty variable is none."""
    for words, value in ((("--launcher", "namespace"), "microvm"), ((), ""), ((), "namespace")):
        created = agent.run("vm", "create", "--language", "python", *words, check=True, env={"AGENT_LAUNCHER": value}).json()
        agent.clean(created["id"])
        assert created["launcher"] == "namespace"


def test_two_streams_joined_are_one_object(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Whoever cannot tell them apart can still parse every successful command of a VM's life."""

    def joined(*words: str) -> list[dict[str, object]]:
        done = subprocess.run([agent.program, *words], env=agent.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, done
        return [json.loads(line) for line in done.stdout.splitlines()]

    (created,) = joined("vm", "create", "--language", "python", "--persist", "--disk", "16", "--network", "allow_all")
    vm = str(created["id"])
    try:
        (tmp_path / "file").write_text("text")
        assert [o["message"] for o in joined("vm", "run", "--vm", vm, "--cmd", "echo out; echo err >&2")] == ["vm run"]
        assert [o["message"] for o in joined("vm", "cp", str(tmp_path / "file"), f"{vm}:/tmp")] == ["copied"]
        assert [o["id"] for o in joined("vm", "list")] == [vm]
        assert [o["id"] for o in joined("vm", "show", "--vm", vm)] == [vm]
        assert [o["vm"] for o in joined("volume", "list")] == [vm]
        assert len(joined("image", "list")) >= 2
        assert [o["name"] for o in joined("version")] == ["agent"]
        assert [o["message"] for o in joined("vm", "stop", "--vm", vm)] == ["vm stopped"]
    finally:
        assert [o["message"] for o in joined("vm", "clean", "--vm", vm)] == ["vm cleaned"]


def test_option_and_value_in_one_word_or_two(agent: Agent, vm: str) -> None:
    """A value may hold what it likes, also an equals sign and a hyphen in front."""
    assert agent.run("vm", "exec", f"--vm={vm}", "--env=A=b=c", "--cmd=echo $A", check=True).text == "b=c\n"
    assert agent.run("vm", "exec", "--vm", vm, "--env", "A=-b", "--cmd", "echo $A", check=True).text == "-b\n"
    assert agent.run("vm", "exec", "--vm", vm, "--cmd", " --vm; echo $?", check=True).text == "127\n"


def test_the_latest_finished_run_is_at_the_two_paths(agent: Agent, vm: str) -> None:
    """One that goes on is not there yet."""
    shown = agent.run("vm", "run", "--vm", vm, "--cmd", "echo before", check=True).json()
    out = pathlib.Path(shown["stdout"])
    run = agent.start("vm", "run", "--vm", vm, "--cmd", "echo begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo after",
                      stdout=subprocess.DEVNULL)
    eventually(lambda: agent.run("vm", "logs", "--vm", vm).stdout == b"begun\n")
    assert out.read_text() == "before\n"
    agent.run("vm", "cp", __file__, f"{vm}:/tmp/go", check=True)
    assert run.wait(30) == 0
    assert out.read_text() == "begun\nafter\n"


def test_the_two_paths_never_hold_a_half(agent: Agent, vm: str) -> None:
    """Read as fast as one can while run after run ends."""
    out = pathlib.Path(agent.run("vm", "run", "--vm", vm, "--cmd", "printf %09999d 0", check=True).json()["stdout"])
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(out.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(20):
            agent.run("vm", "run", "--vm", vm, "--cmd", f"printf %09999d {number}", check=True)
    finally:
        stop.set()
        reader.join()
    assert seen <= {f"{number:09999d}" for number in range(20)}
    assert out.read_text() == f"{19:09999d}"


def test_the_newest_hundred_logs_are_kept(agent: Agent, vm: str) -> None:
    """Older ones go, with the folder that they are in."""
    runs = [agent.run("vm", "run", "--vm", vm, "--cmd", f"echo {n}", check=True).json()["run"] for n in range(103)]
    folder = agent.state / "vms" / vm / "out" / "runs"
    assert sorted(path.name for path in folder.iterdir()) == sorted(runs[3:])
    assert agent.run("vm", "logs", "--vm", vm, "--run", runs[0]).error()["code"] == "run_not_found"
    assert agent.run("vm", "logs", "--vm", vm, "--run", runs[3], check=True).text == "3\n"


def test_runs_at_once_have_ids_and_folders_of_their_own(agent: Agent, vm: str) -> None:
    """Also when the clock says the same."""
    started = [agent.start("vm", "run", "--vm", vm, "--cmd", "true", stdout=subprocess.PIPE) for _ in range(4)]
    runs = {json.loads(run.communicate(timeout=60)[0])["run"] for run in started}
    assert len(runs) == 4
    assert {path.name for path in (agent.state / "vms" / vm / "out" / "runs").iterdir()} == runs


def test_paths_are_absolute_whatever_the_state_directory_was_called(fresh_state: Agent) -> None:
    """A relative name is made absolute, and --state-dir wins over the environment."""
    env = {**fresh_state.env, "AGENT_STATE_DIR": "/dev/null/none"}
    program, folder = fresh_state.program.resolve(), fresh_state.state.parent
    words = ["--state-dir", "state", "vm", "create", "--language", "python"]
    done = subprocess.run([program, *words], env=env, cwd=folder, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done
    vm = json.loads(done.stdout)["id"]
    words = ["--state-dir=./state/../state", "vm", "run", "--vm", vm, "--cmd", "echo out"]
    done = subprocess.run([program, *words], env=env, cwd=folder, capture_output=True, timeout=60)
    shown = json.loads(done.stdout)
    assert shown["stdout"] == str(fresh_state.state / "vms" / vm / "out" / "stdout.log")
    assert pathlib.Path(shown["stdout"]).read_text() == "out\n" and pathlib.Path(shown["stderr"]).read_text() == ""


def test_list_and_show_tell_the_same(agent: Agent, vm: str) -> None:
    """With keys in one order."""
    (listed,) = agent.run("vm", "list", check=True).lines()
    shown = agent.run("vm", "show", "--vm", vm, check=True).json()
    assert list(listed) == LISTED
    assert list(shown) == [*LISTED, "pids", "directory"]
    assert shown.items() >= listed.items()
    assert (listed["status"], listed["last_run_at"]) == ("ready", None)
    assert pathlib.Path(shown["directory"]).is_dir()
    agent.sh(vm, "true")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", agent.run("vm", "show", "--vm", vm).json()["last_run_at"])


def test_a_terminal_gets_a_table(agent: Agent, vm: str) -> None:
    """Unless --output says otherwise."""
    for words, first in ((("vm", "list"), "ID"), (("image", "list"), "REFERENCE"), (("vm", "list", "--output", "json"), "{")):
        master, slave = pty.openpty()
        done = subprocess.run([agent.program, *words], env=agent.env, stdout=slave, stderr=subprocess.PIPE, timeout=60)
        os.close(slave)
        text = os.read(master, 65536).decode()
        os.close(master)
        assert done.returncode == 0 and text.startswith(first), text


def test_copies_go_where_cp_would_put_them(agent: Agent, vm: str, tmp_path: pathlib.Path) -> None:
    """Into a directory, to a new name, in place of a file; both ways."""
    source = tmp_path / "source"
    source.write_text("new")
    source.chmod(0o640)
    agent.sh(vm, "mkdir /tmp/dir; echo old > /tmp/old")
    for target in ("/tmp/dir", "/tmp/old", "/tmp/name"):
        agent.run("vm", "cp", str(source), f"{vm}:{target}", check=True)
    assert agent.sh(vm, "cat /tmp/dir/source /tmp/old /tmp/name; stat -c %a /tmp/name").text == "newnewnew640\n"
    (tmp_path / "dir").mkdir()
    (tmp_path / "old").write_text("old")
    for target in ("dir", "old", "name"):
        agent.run("vm", "cp", f"{vm}:/tmp/dir/source", str(tmp_path / target), check=True)
    assert [(tmp_path / t).read_text() for t in ("dir/source", "old", "name")] == ["new"] * 3
    assert (tmp_path / "name").stat().st_mode & 0o777 == 0o640
    agent.run("vm", "cp", f"{vm}:/tmp/dir", str(tmp_path / "dir"), check=True)
    assert (tmp_path / "dir" / "dir" / "source").read_text() == "new"
    for words in ((f"{vm}:/tmp/name", str(tmp_path / "no" / "name")), (str(source), f"{vm}:/no/such/name"),
                  (str(tmp_path / "missing"), f"{vm}:/tmp")):
        result = agent.run("vm", "cp", *words)
        assert (result.code, result.error()["code"]) == (1, "file_not_found")


def test_stop_and_clean_go_on_after_an_unknown_vm(agent: Agent) -> None:
    """Each is told of; the status is that of a failure. --all of none is done at once."""
    first, second = agent.create(), agent.create()
    for verb, message in (("stop", "vm stopped"), ("clean", "vm cleaned")):
        result = agent.run("vm", verb, "--vm", first, "--vm", "python-1", "--vm", second)
        assert result.code == 1
        assert [(o["message"], o["id"]) for o in result.lines()] == [(message, first), (message, second)]
        (error,) = result.stderr.decode().splitlines()
        assert json.loads(error)["code"] == "vm_not_found"
    for verb in ("stop", "clean"):
        assert agent.run("vm", verb, "--all", check=True).stdout == b""


def test_errors_go_to_the_log_file_as_well(agent: Agent, tmp_path: pathlib.Path) -> None:
    """That of the option, or else that of the environment."""
    by_env, by_option = tmp_path / "env.log", tmp_path / "option.log"
    env = {"AGENT_LOG_FILE": str(by_env)}
    first = agent.run("vm", "show", "--vm", "python-1", env=env)
    assert by_env.read_bytes() == first.stderr
    second = agent.run("--log-file", str(by_option), "vm", "show", "--vm", "python-2", env=env)
    assert by_option.read_bytes() == second.stderr and by_env.read_bytes() == first.stderr


def test_the_log_level_of_the_option_wins(agent: Agent) -> None:
    """A wrong one in the environment does not matter then."""
    env = {"AGENT_LOG_LEVEL": "loud"}
    assert agent.run("version", env=env).error()["field"] == "log-level"
    assert agent.run("--log-level=debug", "version", env=env, check=True).json()["name"] == "agent"


@pytest.mark.parametrize(
    ("blocked", "home", "taken"),
    [
        ("", "/home", "/var/lib/agent"),
        ("/var/lib", "/home", "/home/.config/agent"),
        ("/var/lib", "not-absolute", "/tmp/agent"),
        ("/var/lib /home", "/home", "/tmp/agent"),
    ],
)
def test_the_first_usable_default_is_the_state_directory(blocked: str, home: str, taken: str) -> None:
    """Of four candidates, made with mode 0700."""
    script = """
        mount --bind "$1" /mnt
        for dir in /var/lib /home /tmp; do mount -t tmpfs none $dir; done
        for dir in $2; do mount -o remount,ro $dir; done
        HOME=$3 /mnt/agent vm list
        find /var/lib /home /tmp -name state.db -printf '%h '
        stat -c %a "$4"
    """
    words = ["unshare", "-m", "sh", "-ec", script, "sh", str(BUILD / "src" / "main"), blocked, home, taken]
    done = subprocess.run(words, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{taken} 700\n", "")
