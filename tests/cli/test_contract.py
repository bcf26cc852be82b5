# SPDX-License-Identifier: Apache-2.0
"""What scripts rely on: shapes of output, exit statuses, where things are."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest

from tests.conftest import Agent

CREATED = ["level", "message", "id", "language", "rootfs", "cpu_count", "memoryMiB", "network", "persisted", "launcher",
           "created_at"]
RAN = ["level", "message", "vm", "run", "exit_code", "stdout", "stderr", "duration", "verdict", "timed_out", "truncated",
       "cpu_ms", "peak_memory_kib"]

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
    assert report["launcher"] == "namespace" and report["reason"]
    assert {check["state"] for check in report["checks"]} <= {"ok", "warn", "missing"}


def test_a_launcher_that_is_asked_for_by_name_is_never_replaced(agent: Agent) -> None:
    """It is an error that says what is missing."""
    error = agent.run("vm", "create", "--language", "python", "--launcher", "microvm").error()
    assert error["code"] == "launcher_unavailable"
    by_env = agent.run("vm", "create", "--language", "python", env={"AGENT_LAUNCHER": "microvm"}).error()
    assert by_env["code"] == "launcher_unavailable"
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
