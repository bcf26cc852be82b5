# SPDX-License-Identifier: Apache-2.0
"""VMs by HTTP, and the same VMs by the command line at the same time."""

from __future__ import annotations

import fcntl
import pathlib
import signal
import threading
import time
from typing import Any

from tests.conftest import Agent
from tests.http.conftest import Answer, Server

VM_FIELDS = {"id", "language", "rootfs_image", "cpu_count", "memory_mib", "network_mode", "persist", "launcher",
             "status", "created_at", "last_run_at"}


def test_health_tells_the_time(server: Server) -> None:
    body = server.ask("GET", "/health").json()
    assert body["status"] == "healthy"
    told = time.mktime(time.strptime(body["time"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(told - time.time()) < 5


def test_a_vm_has_the_properties_that_were_asked_for(server: Server) -> None:
    answer = server.ask("POST", "/api/vm", {"language": "js", "cpu_count": 2, "memory_mib": 128, "network_mode": "none",
                                            "env": {"GREETING": "hello=you"}})
    assert answer.status == 201
    vm = answer.json()
    try:
        assert set(vm) == VM_FIELDS
        assert answer.headers["Location"] == f"/api/vm/{vm['id']}"
        assert vm["language"] == "node" and vm["cpu_count"] == 2 and vm["memory_mib"] == 128
        assert vm["status"] == "ready" and vm["persist"] is False and vm["last_run_at"] is None
        assert server.ask("GET", f"/api/vm/{vm['id']}").json() == vm
        assert server.run(vm["id"], "echo $GREETING; nproc")["stdout"].startswith("hello=you\n")
        assert server.ask("GET", f"/api/vm/{vm['id']}").json()["last_run_at"] is not None
    finally:
        assert server.ask("DELETE", f"/api/vm/{vm['id']}").status == 200


def test_a_vm_of_the_command_line_is_seen_by_http(agent: Agent, server: Server, vm: str) -> None:
    assert server.ask("GET", f"/api/vm/{vm}").json()["status"] == "ready"
    assert vm in [one["id"] for one in server.ask("GET", "/api/vms").json()["vms"]]
    assert server.run(vm, "echo here > /tmp/mark; echo $((6 * 7))")["stdout"] == "42\n"
    assert agent.sh(vm, "cat /tmp/mark").stdout == b"here\n"
    stopped = server.ask("POST", f"/api/vm/{vm}/stop")
    assert stopped.status == 200
    assert {"status": "stopped", "vm_id": vm}.items() <= stopped.json().items() and stopped.json()["message"]
    assert agent.status(vm) == "stopped"
    assert server.ask("POST", f"/api/vm/{vm}/stop").status == 200, "stopping twice is no error"
    assert server.run(vm, "echo again")["stdout"] == "again\n", "a run starts it again"


def test_a_vm_of_http_is_seen_by_the_command_line(agent: Agent, server: Server) -> None:
    vm = server.create()
    assert agent.status(vm) == "ready"
    assert agent.sh(vm, "echo hi").stdout == b"hi\n"
    agent.clean(vm)
    server.ask("GET", f"/api/vm/{vm}").error(404, "vm_not_found")
    server.ask("POST", f"/api/vm/{vm}/run", {"command": "true"}).error(404, "vm_not_found")


def test_a_deleted_vm_is_gone_and_its_volume_as_asked(agent: Agent, server: Server) -> None:
    vm = server.create(persist=True, disk_mib=16)
    assert server.ask("GET", f"/api/vm/{vm}").json()["persist"] is True
    server.run(vm, "echo kept > /workspace/persist/note")
    deleted = server.ask("DELETE", f"/api/vm/{vm}?keep_persist=true")
    assert deleted.status == 200
    assert {"status": "deleted", "vm_id": vm}.items() <= deleted.json().items()
    server.ask("DELETE", f"/api/vm/{vm}").error(404, "vm_not_found")
    again = server.create(volume=vm)
    assert server.run(again, "cat /workspace/persist/note")["stdout"] == "kept\n"
    assert server.ask("DELETE", f"/api/vm/{again}").status == 200
    assert agent.run("volume", "list", check=True).stdout == b""


def test_the_list_comes_page_by_page_and_by_status(agent: Agent, server: Server) -> None:
    made = [server.create() for _ in range(3)]
    server.ask("POST", f"/api/vm/{made[1]}/stop")
    try:
        seen: list[str] = []
        path = "/api/vms?limit=1"
        while True:
            page = server.ask("GET", path).json()
            assert page["count"] == len(page["vms"]) <= 1
            seen += [vm["id"] for vm in page["vms"]]
            if "next_cursor" not in page:
                break
            path = f"/api/vms?limit=1&cursor={page['next_cursor']}"
        assert [vm for vm in seen if vm in made] == made
        assert len(seen) == len(set(seen)), "no VM on two pages"
        stopped = server.ask("GET", "/api/vms?status=stopped&limit=1000").json()
        assert [vm["id"] for vm in stopped["vms"] if vm["id"] in made] == [made[1]]
        first = server.ask("GET", "/api/vms?status=stopped&limit=1").json()
        assert [vm["id"] for vm in first["vms"]] == [stopped["vms"][0]["id"]], "a page is full before it ends"
        cursor = server.ask("GET", "/api/vms?limit=1").json()["next_cursor"]
        gone = server.ask("GET", "/api/vms?limit=1").json()["vms"][0]["id"]
        if gone in made:
            agent.clean(gone)
            rest = server.ask("GET", f"/api/vms?cursor={cursor}").json()
            assert [vm["id"] for vm in rest["vms"] if vm["id"] in made] == [vm for vm in made if vm != gone], \
                "a cursor holds good when its VM is gone"
    finally:
        for vm in made:
            agent.clean(vm)


def test_a_key_creates_one_vm(agent: Agent, server: Server) -> None:
    answers: list[Answer] = []

    def create(**fields: Any) -> Answer:
        return server.ask("POST", "/api/vm", {"language": "python", **fields}, {"Idempotency-Key": "once upon a time"})

    threads = [threading.Thread(target=lambda: answers.append(create())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = {answer.json()["id"] for answer in answers if answer.status == 201}
    try:
        assert len(made) == 1, "at once, one creates; the others get its VM, or are told that it is being made"
        for answer in answers:
            assert answer.status == 201 or answer.error(409, "vm_busy")
        assert create().json()["id"] in made
        create(memory_mib=128).error(409, "idempotency_mismatch")
        other = server.ask("POST", "/api/vm", {"language": "python"}, {"Idempotency-Key": "another"}).json()["id"]
        agent.clean(other)
        assert other not in made
    finally:
        for vm in made:
            agent.clean(vm)
    again = create().json()["id"]
    agent.clean(again)
    assert again not in made, "a key goes with its VM"


def test_every_wrong_field_is_named(server: Server) -> None:
    body = {"language": "perl", "cpu_count": 0, "memory_mib": "much", "network_mode": "some", "persist": 1,
            "env": {"A B": "x"}, "image": "UPPER", "launcher": "none", "disk_mib": 1.5, "surprise": True}
    error = server.ask("POST", "/api/vm", body).error(400, "invalid_argument")
    for name in body:
        assert name in error["message"] and name in error["details"], name
    error = server.ask("POST", "/api/vm/temp", {}).error(400, "invalid_argument")
    assert "language" in error["details"] and "command" in error["details"]


def test_what_cannot_be_had_is_refused(server: Server) -> None:
    server.ask("POST", "/api/vm", {"language": "python", "image": "no/such:image"}).error(404, "image_not_found")
    server.ask("POST", "/api/vm", {"language": "python", "volume": "no-such"}).error(404, "volume_not_found")
    server.ask("GET", "/api/vm/python-1").error(404, "vm_not_found")
    server.ask("GET", "/api/vm/..%2f..%2fetc").error(400, "invalid_argument")
    server.ask("GET", "/api/vm/perl-1").error(400, "invalid_argument")
    server.ask("GET", "/api/vms?status=asleep").error(400, "invalid_argument")
    server.ask("GET", "/api/vms?limit=0").error(400, "invalid_argument")
    server.ask("GET", "/api/vms?limit=1&limit=2").error(400, "invalid_argument")
    server.ask("GET", "/api/vms?cursor=nonsense").error(400, "invalid_argument")
    server.ask("GET", "/api/vms?sort=name").error(400, "invalid_argument")
    server.ask("DELETE", "/api/vm/python-1?keep_persist=perhaps").error(400, "invalid_argument")
    both = {"language": "python", "network": "allow_all", "network_mode": "none"}
    assert "network" in server.ask("POST", "/api/vm", both).error(400, "invalid_argument")["message"]
    for key in ("", "k" * 256, "a\tb"):
        server.ask("POST", "/api/vm", {"language": "python"}, {"Idempotency-Key": key}).error(400, "invalid_argument")


def test_who_waits_for_an_image_is_told_in_the_log(serve: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "images").mkdir(mode=0o700)
    own = serve(agent=Agent(tmp_path))
    with open(tmp_path / "images" / ".lock-agent%2Fpython%3A3.11", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process makes it
        connection = own.connect()
        connection.request("POST", "/api/vm", '{"language":"python"}', {"Content-Type": "application/json"})
        assert own.wait_for_log("waiting for another process")["level"] == "info"
        assert own.ask("GET", "/api/vms").json()["vms"] == [], "others do not wait"
        own.stop(signal.SIGKILL)
        connection.close()


def test_the_key_of_a_vm_survives_the_server(agent: Agent, serve: Any) -> None:
    headers = {"Idempotency-Key": "across restarts"}
    first = serve()
    vm = first.ask("POST", "/api/vm", {"language": "python"}, headers).json()["id"]
    assert first.stop() == 0
    second = serve()
    try:
        assert second.ask("POST", "/api/vm", {"language": "python"}, headers).json()["id"] == vm
    finally:
        agent.clean(vm)
