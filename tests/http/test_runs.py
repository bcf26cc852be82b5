# SPDX-License-Identifier: Apache-2.0
"""Commands by HTTP: results, files that come with them, temporary VMs, clients that go away."""

from __future__ import annotations

import base64
import json
import socket

import pytest

from tests.conftest import Agent, eventually
from tests.http.conftest import Server

RESULT_FIELDS = {"run_id", "exit_code", "stdout", "stderr", "duration", "verdict", "timed_out", "truncated", "cpu_ms",
                 "peak_memory_kib"}


def test_a_command_that_fails_is_a_success_of_the_api(server: Server, home: str) -> None:
    result = server.run(home, "echo out; echo err >&2; exit 7")
    assert set(result) == RESULT_FIELDS
    assert (result["exit_code"], result["stdout"], result["stderr"]) == (7, "out\n", "err\n")
    assert result["verdict"] == "exited" and not result["timed_out"] and not result["truncated"]
    assert float(result["duration"].removesuffix("s")) > 0 and result["peak_memory_kib"] > 0


def test_verdicts(server: Server, home: str) -> None:
    result = server.run(home, "sleep 100", timeout=0.3)
    assert result["verdict"] == "timed_out" and result["timed_out"] and result["exit_code"] == 124
    result = server.run(home, "kill -9 $$")
    assert result["verdict"] == "signaled" and result["exit_code"] == 137


def test_stdin_env_and_workdir(server: Server, home: str) -> None:
    text = "line\n" * 200000
    result = server.run(home, "pwd; echo $A$B; md5sum; wc -c < /dev/null", stdin=text, env={"A": "1", "B": ""},
                        workdir="/tmp")
    import hashlib
    assert result["stdout"] == f"/tmp\n1\n{hashlib.md5(text.encode()).hexdigest()}  -\n0\n"
    assert server.run(home, "wc -c")["stdout"] == "0\n", "without stdin it is empty"
    assert server.run(home, "exec 0<&-; sleep 0.1; echo done", stdin=text)["stdout"] == "done\n", \
        "a command need not read it"


def test_files_come_with_a_run(server: Server, home: str) -> None:
    binary = bytes(range(256)) * 300
    files = [{"path": "hello.py", "content": "print('héllo')\n"},
             {"path": "in/deep/er/data.bin", "content_base64": base64.b64encode(binary).decode()},
             {"path": "/tmp/absolute", "content": ""}]
    result = server.run(home, "python3 hello.py; md5sum < in/deep/er/data.bin; ls -l /tmp/absolute; rm -r in hello.py",
                        files=files)
    import hashlib
    assert result["stdout"].splitlines()[:2] == ["héllo", f"{hashlib.md5(binary).hexdigest()}  -"], result
    assert result["exit_code"] == 0


@pytest.mark.parametrize("files", [
    [{"path": "../up", "content": ""}], [{"path": "a/../../b", "content": ""}], [{"path": "", "content": ""}],
    [{"path": "a", "content": "", "content_base64": ""}], [{"path": "a"}], [{"path": "a", "content_base64": "*"}],
    [{"path": "a", "content": ""}, {"path": "/workspace/a", "content": ""}], "a", [1], [{"path": 1, "content": ""}],
    [{"path": "a//b", "content": ""}], [{"path": "a", "content_base64": "QQ"}],
])
def test_files_that_cannot_be(server: Server, home: str, files: object) -> None:
    error = server.ask("POST", f"/api/vm/{home}/run", {"command": "true", "files": files}).error(400, "invalid_argument")
    assert "files" in error["message"]


def test_a_file_that_does_not_fit_is_refused(server: Server) -> None:
    vm = server.create(memory_mib=32)
    content = "x" * (15 << 20)
    files = [{"path": f"f{i}", "content": content} for i in range(1)]
    assert server.run(vm, "true", files=files)["exit_code"] == 0
    answer = server.ask("POST", f"/api/vm/{vm}/run", {"command": "true", "files": [{"path": "g", "content": content}]})
    server.ask("DELETE", f"/api/vm/{vm}")
    answer.error(413, "storage_full")


def test_output_of_any_bytes(server: Server, home: str) -> None:
    result = server.run(home, r"printf '\377\376\000\001'; printf '\001\042\134\t\r\033' >&2")
    assert base64.b64decode(result["stdout_base64"]) == b"\xff\xfe\x00\x01" and "stdout" not in result
    assert result["stderr"] == "\x01\"\\\t\r\x1b"
    # A character of three bytes lies across every border that there may be.
    result = server.run(home, "python3 -c \"print('ab' + '€' * 100000, end='')\"")
    assert result["stdout"] == "ab" + "€" * 100000


def test_output_without_end_is_cut_in_its_middle(server: Server, home: str) -> None:
    result = server.run(home, "yes 0123456789 | head -c 40000000", timeout=120)
    assert result["truncated"] and result["verdict"] == "exited"
    assert (16 << 20) - 4096 < len(result["stdout"]) <= (16 << 20) + 4096


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"command":"true","command":"true"}',
                                  b'{"command":' + b"[" * 100 + b"]" * 100 + b"}", b'{"command":"a\\u0000b"}'])
def test_bodies_that_are_none(server: Server, home: str, body: bytes) -> None:
    answer = server.ask("POST", f"/api/vm/{home}/run", body, {"Content-Type": "application/json"})
    answer.error(400, "malformed")


def test_fields_of_wrong_types(server: Server, home: str) -> None:
    wrong = {"command": 1, "timeout": "long", "env": ["A=1"], "workdir": "relative", "stdin": 5, "files": {}}
    error = server.ask("POST", f"/api/vm/{home}/run", wrong).error(400, "invalid_argument")
    for name in wrong:
        assert name in error["details"], name
    for timeout in (0, -1, 604801, 1e300):
        server.ask("POST", f"/api/vm/{home}/run", {"command": "true", "timeout": timeout}).error(400, "invalid_argument")
    server.ask("POST", f"/api/vm/{home}/run?stream=xml", {"command": "true"}).error(400, "invalid_argument")


def test_a_temporary_vm_is_gone_when_it_answers(agent: Agent, server: Server) -> None:
    before = agent.run("vm", "list", "--all", "--quiet", check=True).stdout
    answer = server.ask("POST", "/api/vm/temp", {"language": "node", "command": "node -p 6*7; exit 4", "memory_mib": 256})
    assert answer.status == 200 and answer.json()["stdout"] == "42\n" and answer.json()["exit_code"] == 4
    assert agent.run("vm", "list", "--all", "--quiet", check=True).stdout == before
    server.ask("POST", "/api/vm/temp", {"language": "python", "command": "true", "files": [{"path": "..", "content": ""}]})
    assert agent.run("vm", "list", "--all", "--quiet", check=True).stdout == before


def send(server: Server, path: str, body: dict[str, object]) -> socket.socket:
    """A request whose answer is not waited for."""
    connection = socket.create_connection((server.host, server.port), timeout=60)
    data = json.dumps(body).encode()
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_a_client_that_goes_away_leaves_its_run_to_its_end(agent: Agent, server: Server, home: str) -> None:
    connection = send(server, f"/api/vm/{home}/run", {"command": "touch begun; while [ ! -e go ]; do sleep 0.02; done;"
                                                                 "echo to the end; touch over"})
    eventually(lambda: server.run(home, "test -e begun")["exit_code"] == 0)
    connection.close()
    assert server.run(home, "touch go; while [ ! -e over ]; do sleep 0.02; done; rm begun go over")["exit_code"] == 0
    eventually(lambda: any(
        b"to the end" in agent.run("vm", "logs", "--vm", home, "--run", run.name).stdout
        for run in (agent.state / "vms" / home / "out" / "runs").iterdir()))


def test_a_client_that_goes_away_ends_its_temporary_vm(agent: Agent, server: Server) -> None:
    before = set(agent.run("vm", "list", "--all", "--quiet", check=True).text.split())
    connection = send(server, "/api/vm/temp", {"language": "python", "command": "sleep 1000", "timeout": 1000})

    def running() -> set[str]:
        return set(agent.run("vm", "list", "--status", "running", "--quiet", check=True).text.split()) - before

    eventually(lambda: len(running()) == 1)
    connection.close()
    eventually(lambda: set(agent.run("vm", "list", "--all", "--quiet", check=True).text.split()) <= before)
