# SPDX-License-Identifier: Apache-2.0
"""Pause, snapshots and forks, by HTTP."""

from __future__ import annotations

from tests.conftest import Agent
from tests.http.conftest import Server


def test_pause_snapshot_and_fork(server: Server, agent: Agent) -> None:
    """A VM stands still, goes on, is saved, and goes on as others."""
    vm = server.create(launcher="microvm")
    made = [vm]
    try:
        server.run(vm, "echo before > /root/file")
        assert server.ask("POST", f"/api/vm/{vm}/pause").json()["status"] == "paused"
        assert server.ask("GET", f"/api/vm/{vm}").json()["status"] == "paused"
        server.ask("POST", f"/api/vm/{vm}/run", {"command": "true"}).error(409, "vm_paused")
        assert server.ask("POST", f"/api/vm/{vm}/resume").json()["status"] == "resumed"
        assert server.ask("POST", f"/api/vm/{vm}/snapshot", {"name": "by-http"}).status == 201
        server.ask("POST", f"/api/vm/{vm}/snapshot", {"name": "by-http"}).error(409, "snapshot_exists")
        server.run(vm, "echo after > /root/file")
        answer = server.ask("POST", "/api/vm", {"from": "by-http"})
        assert answer.status == 201
        made.append(answer.json()["id"])
        forked = server.ask("POST", f"/api/vm/{vm}/fork", {"count": 2})
        assert forked.status == 201 and forked.json()["count"] == 2
        made += [one["id"] for one in forked.json()["vms"]]
        assert [server.run(one, "cat /root/file")["stdout"] for one in made] == [
            "after\n", "before\n", "after\n", "after\n"]
    finally:
        for one in made:
            agent.clean(one)
        agent.run("snapshot", "remove", "by-http")


def test_what_is_refused(server: Server, agent: Agent) -> None:
    """Each with its code."""
    server.ask("POST", "/api/vm", {"from": "absent"}).error(404, "snapshot_not_found")
    server.ask("POST", "/api/vm", {"from": "absent", "language": "python"}).error(400, "invalid_argument")
    server.ask("POST", "/api/vm", {"from": "UP"}).error(400, "invalid_argument")
    server.ask("POST", "/api/vm/python-1/pause").error(404, "vm_not_found")
    vm = server.create(launcher="namespace")
    try:
        server.ask("POST", f"/api/vm/{vm}/fork", {"count": 0}).error(400, "invalid_argument")
        server.ask("POST", f"/api/vm/{vm}/snapshot", {}).error(400, "invalid_argument")
        server.ask("POST", f"/api/vm/{vm}/snapshot", {"name": "other"}).error(409, "not_supported")
        server.ask("POST", f"/api/vm/{vm}/fork", {"count": 1}).error(409, "not_supported")
        server.ask("POST", f"/api/vm/{vm}/pause").error(409, "not_supported")
    finally:
        agent.clean(vm)
