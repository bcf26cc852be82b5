# SPDX-License-Identifier: Apache-2.0
"""The server's own life: draining, dying, starting, service managers. VMs do not notice."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest

from tests.conftest import BUILD, ROOT, Agent, eventually, shim_of
from tests.http.conftest import Answer, Server, until_it_stands_still
from tests.http.test_shell import frame, open_raw
from tests.http.test_streams import raw_stream


def in_background(call: Callable[[], Answer]) -> tuple[threading.Thread, list[Answer]]:
    """A call in a thread, and where its answer will be."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def wait_for(agent: Agent, vm: str, path: str) -> None:
    """Until a file is in the VM."""
    eventually(lambda: agent.sh(vm, f"test -e {path}", check=False).code == 0)


def test_sigterm_lets_what_runs_end(serve: Callable[..., Server], agent: Agent, vm: str) -> None:
    server = serve()
    idle = server.connect()
    server.ask("GET", "/health", connection=idle)
    run = {"command": "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.02; done; echo done"}
    thread, answers = in_background(lambda: server.ask("POST", f"/api/vm/{vm}/run", run))
    wait_for(agent, vm, "/tmp/begun")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("shutting down")
    with pytest.raises(OSError):
        server.ask("GET", "/health")  # nobody listens any more
    answer = server.ask("GET", "/health", connection=idle)
    answer.error(503, "shutting_down")
    assert answer.headers["Connection"] == "close" and "Retry-After" in answer.headers
    agent.sh(vm, "touch /tmp/go")
    thread.join()
    assert answers[0].json()["stdout"] == "done\n"
    assert server.process.wait(timeout=30) == 0
    assert agent.status(vm) == "ready"


def test_after_its_time_of_grace_it_ends_all_the_same(serve: Callable[..., Server], agent: Agent, vm: str) -> None:
    server = serve("--grace", "0")
    run = {"command": "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.02; done; touch /tmp/over", "timeout": 600}
    plain, answers = in_background(lambda: server.ask("POST", f"/api/vm/{vm}/run", run))
    temp, gone = in_background(lambda: server.ask("POST", "/api/vm/temp", {"language": "python", "command": "sleep 600",
                                                                          "timeout": 600}))
    wait_for(agent, vm, "/tmp/begun")
    eventually(lambda: len(agent.run("vm", "list", "--status", "running", "--quiet", check=True).text.split()) == 2)
    assert server.stop() == 0
    plain.join()
    temp.join()
    answers[0].error(503, "shutting_down")
    assert gone[0].json()["verdict"] == "signaled"
    assert agent.run("vm", "list", "--all", "--quiet", check=True).text.split() == [vm], "no temporary VM is left"
    agent.sh(vm, "touch /tmp/go")
    wait_for(agent, vm, "/tmp/over")


def test_an_image_that_is_being_built_keeps_no_server_alive(serve: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    """What was begun of it is removed, and who waited for his VM is told."""
    agent = Agent(tmp_path)
    server = serve("--grace", "0", agent=agent)
    create, answers = in_background(lambda: server.ask("POST", "/api/vm", {"language": "python"}))
    images = tmp_path / "images"
    eventually(lambda: any(images.glob(".work-*/rootfs/var/lib/dpkg")))
    assert server.stop() == 0
    create.join()
    answers[0].error(503, "interrupted")
    assert list(images.iterdir()) == []


def test_a_terminal_is_closed_in_good_order(serve: Callable[..., Server], agent: Agent, vm: str) -> None:
    server = serve("--grace", "0")
    with open_raw(server, vm) as connection:
        connection.sendall(frame(2, b"touch /tmp/here; cat\n"))
        wait_for(agent, vm, "/tmp/here")
        server.process.send_signal(signal.SIGTERM)
        received = b""
        while b"shutting down" not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
        assert b"\x03\xe9" in received, "1001, going away"
        connection.sendall(frame(8, b"\x03\xe9"))
        assert server.process.wait(timeout=30) == 0
    eventually(lambda: agent.status(vm) == "ready")


def test_a_client_that_does_not_read_keeps_no_server_alive(serve: Callable[..., Server], server: Server, agent: Agent,
                                                            vm: str) -> None:
    own = serve("--grace", "0")
    with raw_stream(own, vm, "for i in $(seq 1000); do printf '%050000d' $i; echo $i > /tmp/count; done"):
        until_it_stands_still(server, vm, "/tmp/count")
        assert own.stop() == 0
        own.wait_for_log("stopped; 1 requests were left")
    eventually(lambda: agent.status(vm) == "ready")


def test_kill_9_in_the_middle_of_a_hundred_runs(serve: Callable[..., Server], agent: Agent) -> None:
    """The VMs live; the next server finds them, and each run has its end in the books."""
    first = serve()
    vms = [first.create() for _ in range(4)]
    try:
        shims = {vm: shim_of(agent, vm) for vm in vms}
        connections = []
        body = json.dumps({"command": "echo $$ >> /tmp/begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo over",
                           "timeout": 600}).encode()
        for i in range(100):
            connection = socket.create_connection((first.host, first.port))
            connection.sendall(f"POST /api/vm/{vms[i % 4]}/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connections.append(connection)
        for vm in vms:
            eventually(lambda vm=vm: agent.sh(vm, "cat /tmp/begun | wc -l", check=False).stdout.strip() == b"25", 60)
        first.stop(signal.SIGKILL)
        for connection in connections:
            connection.close()
        second = serve()
        found = {vm["id"]: vm["status"] for vm in second.ask("GET", "/api/vms").json()["vms"]}
        assert {vm: found.get(vm) for vm in vms} == dict.fromkeys(vms, "running")
        assert {vm: shim_of(agent, vm) for vm in vms} == shims
        for vm in vms:
            assert second.run(vm, "touch /tmp/go")["exit_code"] == 0
            eventually(lambda vm=vm: second.ask("GET", f"/api/vm/{vm}").json()["status"] == "ready")
            folder = agent.state / "vms" / vm / "out" / "runs"
            outputs = [(run / "stdout.log").read_text() for run in folder.iterdir()]
            assert outputs.count("over\n") == 25, "each went on to its end"
    finally:
        for vm in vms:
            agent.clean(vm)


def test_a_vm_that_dies_is_told_honestly(server: Server, agent: Agent) -> None:
    vm = server.create()
    try:
        thread, answers = in_background(lambda: server.ask("POST", f"/api/vm/{vm}/run", {"command": "touch /tmp/b; sleep 600"}))
        wait_for(agent, vm, "/tmp/b")
        os.kill(shim_of(agent, vm), signal.SIGKILL)
        thread.join()
        result = answers[0].json()
        assert answers[0].status == 200 and result["verdict"] == "vm_lost" and result["exit_code"] == 125
        assert server.ask("GET", f"/api/vm/{vm}").json()["status"] == "stopped"
    finally:
        agent.clean(vm)


def test_deleting_a_vm_ends_its_runs(server: Server) -> None:
    vm = server.create()
    thread, answers = in_background(lambda: server.ask("POST", f"/api/vm/{vm}/run", {"command": "sleep 600"}))
    eventually(lambda: server.ask("GET", f"/api/vm/{vm}").json()["status"] == "running")
    assert server.ask("DELETE", f"/api/vm/{vm}").status == 200
    thread.join()
    assert answers[0].status in (200, 404), answers
    assert answers[0].status == 404 or answers[0].json()["verdict"] == "vm_lost"


def test_a_socket_and_a_word_for_the_service_manager(agent: Agent, tmp_path: pathlib.Path) -> None:
    """What systemd does, done by hand: descriptor 3, LISTEN_PID of the process itself, READY=1 and STOPPING=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket() as listener:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = "127.0.0.1:%d" % listener.getsockname()[1]

        def become() -> None:
            # 3 may be the socket already: then dup2() would do nothing, and it would be closed.
            high = os.dup(listener.fileno())
            os.dup2(high, 3)
            os.environ["LISTEN_PID"] = str(os.getpid())

        script = 'LISTEN_PID=$$ exec "$0" "$@"'
        env = {**agent.env, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(["/bin/sh", "-c", script, agent.program, "serve"], env=env, preexec_fn=become,
                                   close_fds=False, stderr=subprocess.PIPE)
        assert process.stderr is not None
        try:
            assert manager.recv(100) == b"READY=1"
            assert json.loads(process.stderr.readline())["address"] == address
            with socket.create_connection(listener.getsockname(), timeout=10) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("unit", ["agent.service", "agent.socket"])
def test_the_units_are_what_systemd_reads(unit: str, tmp_path: pathlib.Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("agent.service", "agent.socket"):
        text = (ROOT / "dist" / "systemd" / f"{name}.in").read_text()
        (tmp_path / name).write_text(text.replace("@bindir@", str((BUILD / "src" / "main").resolve())))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / unit], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or line.startswith(unit)]
    assert complaints == [], done
