# SPDX-License-Identifier: Apache-2.0
"""`agent serve` as a service of the real systemd, by the units that `make install` installs."""

from __future__ import annotations

import http.client
import json
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import BUILD, ROOT, STATE, Agent, eventually, groups_of, shim_of
from tests.vm.test_machine import OrdinaryUser

UNITS = pathlib.Path("/run/systemd/system")
NAMES = ("agent.socket", "agent.service")
SERVICE_STATE = pathlib.Path("/var/lib/agent")  # StateDirectory= of the unit, and the first place where `agent` looks
CAP_SYS_MODULE, CAP_SYSLOG = 16, 34


def systemctl(*words: str, code: int = 0) -> str:
    """What it prints."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=120)
    journal = "" if done.returncode == code else subprocess.run(
        ["journalctl", "--no-pager", "--lines=40", "--unit=agent.service"], capture_output=True, text=True).stdout
    assert done.returncode == code, f"{done}\n{journal}"
    return done.stdout.strip()


def property_of(name: str) -> str:
    """One of agent.service."""
    return systemctl("show", "--value", "--property", name, "agent.service")


def ask(method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """One request, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", 8787, timeout=120)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == status, answer
        return json.loads(answer)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def units() -> Iterator[Agent]:
    """The units, as they are installed, and the program on the state directory that is the service's."""
    UNITS.mkdir(exist_ok=True)
    for name in NAMES:
        text = (ROOT / "dist" / "systemd" / f"{name}.in").read_text()
        (UNITS / name).write_text(text.replace("@bindir@", str(BUILD / "src" / "main")))
    SERVICE_STATE.mkdir(mode=0o700)
    (SERVICE_STATE / "images").mkdir(mode=0o700)
    subprocess.run(["cp", "-al", STATE / "images" / "agent%2Fpython%3A3.11", SERVICE_STATE / "images"], check=True)
    systemctl("daemon-reload")
    yield Agent(SERVICE_STATE)
    for name in NAMES:
        (UNITS / name).unlink()
    systemctl("daemon-reload")
    shutil.rmtree(SERVICE_STATE)


@pytest.fixture
def service(units: Agent) -> Iterator[Agent]:
    """The socket is started, and nothing else."""
    systemctl("start", "agent.socket")
    yield units
    systemctl("stop", *NAMES)
    assert units.run("vm", "clean", "--all").code == 0


def test_a_request_starts_the_service_and_its_vms_outlive_it(service: Agent) -> None:
    """By the socket; it says READY; a stop touches no VM, and the next request starts it and finds them."""
    assert systemctl("is-active", "agent.service", code=3) == "inactive"
    assert ask("GET", "/health")["status"] == "healthy"
    assert (property_of("ActiveState"), property_of("SubState"), property_of("Type")) == ("active", "running", "notify")
    vm = ask("POST", "/api/vm", {"language": "python", "memory_mib": 96}, 201)["id"]
    (group,) = groups_of(vm)
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    keeper, server = shim_of(service, vm), property_of("MainPID")

    systemctl("stop", "agent.service")
    assert (property_of("ActiveState"), property_of("Result"), property_of("ExecMainStatus")) == ("inactive", "success", "0")
    assert service.status(vm) == "ready" and shim_of(service, vm) == keeper

    assert ask("POST", f"/api/vm/{vm}/run", {"command": "echo there"})["stdout"] == "there\n"
    assert property_of("MainPID") not in ("0", server)
    assert shim_of(service, vm) == keeper

    systemctl("stop", *NAMES)
    with pytest.raises(ConnectionRefusedError):
        ask("GET", "/health")
    assert service.status(vm) == "ready"


def test_a_killed_server_is_started_again_and_finds_its_vms(service: Agent) -> None:
    """Restart=on-failure, where the shims of its VMs are left over in its control group."""
    vm = ask("POST", "/api/vm", {"language": "python"}, 201)["id"]
    keeper, server = shim_of(service, vm), property_of("MainPID")
    systemctl("kill", "--kill-who=main", f"--signal={int(signal.SIGKILL)}", "agent.service")
    eventually(lambda: property_of("MainPID") not in ("0", server) and property_of("ActiveState") == "active")
    assert [found["id"] for found in ask("GET", "/api/vms")["vms"]] == [vm]
    assert ask("POST", f"/api/vm/{vm}/run", {"command": "echo there"})["stdout"] == "there\n"
    assert shim_of(service, vm) == keeper


def test_what_the_unit_takes_away_no_vm_needs(service: Agent) -> None:
    """It is really taken away; and a volume on a loop device, a network and an interpreter work all the same."""
    subprocess.run("ip link add world type dummy && ip address add 192.0.2.1/24 dev world && ip link set world up"
                   " && ip route add default via 192.0.2.2", shell=True, check=True)
    try:
        spec = {"language": "python", "persist": True, "disk_mib": 64, "network_mode": "allow_all"}
        vm = ask("POST", "/api/vm", spec, 201)["id"]
        command = "echo x > /workspace/persist/x && stat -f -c %T /workspace/persist && grep -c : /proc/net/dev"
        assert ask("POST", f"/api/vm/{vm}/run", {"command": command})["stdout"] == "ext2/ext3\n2\n"
    finally:
        subprocess.run(["ip", "link", "delete", "world"], check=True)
    server = property_of("MainPID")
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{server}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert int(status["CapBnd"], 16) & (1 << CAP_SYS_MODULE | 1 << CAP_SYSLOG) == 0
    look = ["nsenter", "--mount", "--target", server, "ls", "-A", "/home", "/root"]
    hidden = subprocess.run(look, capture_output=True, text=True)
    assert hidden.returncode == 0 and hidden.stdout.split() == ["/home:", "/root:"], hidden


@pytest.fixture
def as_tester(units: Agent) -> Iterator[OrdinaryUser]:
    """The service runs as the ordinary user, by what an administrator adds to the unit."""
    user = OrdinaryUser()
    folder = UNITS / "agent.service.d"
    folder.mkdir()
    (folder / "user.conf").write_text(f"[Service]\nUser=tester\nEnvironment=AGENT_STATE_DIR={user.state}\n")
    systemctl("daemon-reload")
    systemctl("start", "agent.socket")
    yield user
    systemctl("stop", *NAMES)
    assert user.run("vm", "clean", "--all").code == 0
    shutil.rmtree(folder)
    systemctl("daemon-reload")


def test_as_an_ordinary_user_it_has_limits_by_delegation(as_tester: OrdinaryUser) -> None:
    """In the group that the unit is given; a VM is used on when the server is gone."""
    vm = ask("POST", "/api/vm", {"language": "python", "memory_mib": 96}, 201)["id"]
    (group,) = groups_of(vm)
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    assert group.parent.parent.name == "agent.service"
    systemctl("stop", "agent.service")
    assert as_tester.run("vm", "run", "--vm", vm, "--cmd", "true").code == 0
