# SPDX-License-Identifier: Apache-2.0
"""Takes inventory of what a state directory has on this host, and says what has no owner."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import time
from typing import Any

from tests.conftest import LEAST_MEM, MICROVM, Agent, all_groups, groups_without_owner, loop_devices_of

STATE_FILES = {"state.db", "state.db-wal", "state.db-shm", "create.lock", "images", "templates", "vms", "volumes", "snapshots"}
VM_FILES = {"shim.lock", "op.lock", "run.lock", "owner.lock", "vm.sock", "shim.log", "mnt", "out"}

UP = {"ready", "running", "paused"}

# What the kernel takes for the end of a crowd that was killed, on a busy machine.
DEATH_SECONDS = 5.0


def read(path: str) -> str:
    """A file of /proc, or nothing when its process is gone."""
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def link(path: str) -> str:
    """A link of /proc, or nothing."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


class Process:
    """One of the host's, as it was when it was looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        name, _, rest = read(f"/proc/{pid}/stat").rpartition(") ")
        words = rest.split(None, 2)
        self.alive = bool(words) and words[0] not in "ZX"
        self.waits = bool(words) and words[0] in "ST"
        self.parent = int(words[1]) if words else 0
        self.name = name.partition(" (")[2]

    def __repr__(self) -> str:
        return f"{self.name} {self.pid}"


class Host:
    """The host, as far as a state directory has to do with it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.state = agent.state
        self.groups_before = groups_without_owner()

    # ---- what there is ------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, tuple[Process, str]]:
        """Ours, each with the id of its VM: by working directory, control group, or descent from such a one."""
        everyone = {int(name): Process(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        ours: dict[int, tuple[Process, str]] = {}
        known = self.folders()
        for pid, process in everyone.items():
            cwd = link(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
            group = cwd and re.search(r"/agent/([a-z]+-[0-9]+)", read(f"/proc/{pid}/cgroup"))
            if cwd.startswith(f"{self.state}/vms/"):
                ours[pid] = (process, pathlib.Path(cwd).relative_to(self.state / "vms").parts[0])
            elif cwd.startswith(str(self.state)):
                ours[pid] = (process, "")
            elif group and group[1] in known:
                ours[pid] = (process, group[1])
        grown = True
        while grown:
            more = {pid: (p, ours[p.parent][1]) for pid, p in everyone.items() if pid not in ours and p.parent in ours}
            ours.update(more)
            grown = bool(more)
        return {pid: (process, vm) for pid, (process, vm) in ours.items() if process.alive}

    def folders(self) -> set[str]:
        """The VMs that have a folder."""
        return set(os.listdir(self.state / "vms")) if (self.state / "vms").is_dir() else set()

    def mounts(self) -> dict[str, tuple[int, str]]:
        """By mount namespace: a process in it, and its first mount that has to do with the state directory."""
        found: dict[str, tuple[int, str]] = {}
        seen = set()
        for name in os.listdir("/proc"):
            namespace = link(f"/proc/{name}/ns/mnt") if name.isdigit() else ""
            if not namespace or namespace in seen:
                continue
            seen.add(namespace)
            for line in read(f"/proc/{name}/mountinfo").splitlines():
                if f"{self.state}/" in line:
                    found[namespace] = (int(name), line)
                    break
        return found

    def records(self) -> dict[str, dict[str, Any]]:
        """What `agent vm list` says: this is the one list of the promise."""
        result = self.agent.run("vm", "list", "--all", check=True, timeout=60)
        return {record["id"]: record for record in result.lines()}

    # ---- what is wrong with it ----------------------------------------------------------------------------------

    def listens(self, vm: str) -> bool:
        """Whether somebody answers on a VM's socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            folder = os.open(self.state / "vms" / vm, os.O_PATH)
            try:
                probe.settimeout(5)
                probe.connect(f"/proc/self/fd/{folder}/vm.sock")
            except OSError:
                return False
            finally:
                os.close(folder)
        return True

    def problems_of_vm(self, vm: str, status: str, processes: list[Process]) -> list[str]:
        """One VM on record."""
        wrong = []
        names = [process.name for process in processes]
        folder = self.state / "vms" / vm
        files = set(os.listdir(folder)) if folder.is_dir() else set()
        up = status in UP
        if status not in {*UP, "stopped"}:
            wrong.append(f"{vm} is {status}, and nobody makes it")
        if up and not ("era-shim" in names and "vm.sock" in files and self.listens(vm)):
            wrong.append(f"{vm} is {status}, but {names}, {files}")
        if up and not MICROVM and (status == "running") != ("era-run" in names):  # whose runs the host does not see
            wrong.append(f"{vm} is {status}, but has {names}")
        if not up and (processes or "vm.sock" in files):
            wrong.append(f"{vm} is {status}, but has {processes}, {files}")
        if files - VM_FILES:
            wrong.append(f"{vm} has {files - VM_FILES}")
        if (folder / "mnt").is_dir() and os.listdir(folder / "mnt"):
            wrong.append(f"{vm}: mnt is not empty")
        if status != "running":
            wrong += [f"{path} is unfinished" for path in folder.glob("out/**/.*")]
        return wrong

    def problems_of_files(self, records: dict[str, dict[str, Any]]) -> list[str]:
        """The state directory itself."""
        wrong = [f"{name} in the state directory" for name in set(os.listdir(self.state)) - STATE_FILES]
        wrong += [f"vms/{name} without a record" for name in self.folders() - set(records)]
        for folder in ("images", "templates", "snapshots"):
            there = os.listdir(self.state / folder) if (self.state / folder).is_dir() else []
            wrong += [f"{folder}/{name}" for name in there if name.startswith(".") and name != ".kernel"]
        volumes = {v["name"]: v for v in self.agent.run("volume", "list", "--output", "json", check=True).lines()}
        there = set(os.listdir(self.state / "volumes"))
        expected = {f"{v['name']}.img" if v["kind"] == "ext4" else v["name"] for v in volumes.values()}
        wrong += [f"volumes/{name} without a record" for name in there - expected]
        wrong += [f"volume {name} on record without a file" for name in expected - there]
        wrong += [f"volume {v['name']} of {v['vm']}, which is not" for v in volumes.values()
                  if v.get("vm") and v["vm"] not in records]
        return wrong

    def problems(self, records: dict[str, dict[str, Any]]) -> list[str]:
        """What has no owner, and which record lies."""
        processes = self.processes()
        up = {vm for vm, record in records.items() if record["status"] in UP}
        wrong = [f"{process} of {vm or 'nobody'}" for process, vm in processes.values() if vm not in up]
        for vm, record in records.items():
            wrong += self.problems_of_vm(vm, record["status"], [p for p, of in processes.values() if of == vm])
        wrong += self.problems_of_files(records)
        wrong += [f"mount of {pid}: {line}" for pid, line in self.mounts().values() if pid not in processes]
        persisted = sum(1 for vm in up if records[vm]["persisted"])
        if len(loop_devices_of(self.state)) > persisted:
            wrong.append(f"loop devices: {loop_devices_of(self.state)}")
        wrong += [f"group {path}" for path in all_groups() if path.name in records and path.name not in up]
        wrong += [f"group {path}" for path in groups_without_owner() - self.groups_before]
        return wrong

    # ---- what a test does ---------------------------------------------------------------------------------------

    def settles(self) -> None:
        """Waits until nobody of ours comes or goes: a shim that saw another die has something to do."""
        before: set[int] = set()
        while (now := self.processes()).keys() != before or any(
                process.name == "era-shim" and not process.waits for process, _ in now.values()):
            before = set(now)
            time.sleep(0.02)

    def check(self) -> dict[str, dict[str, Any]]:
        """
        One list, and then nothing may be without an owner. What was killed dies
        at the kernel's pace: that is waited for, without another command.
        """
        self.settles()
        records = self.records()
        deadline = time.monotonic() + DEATH_SECONDS
        while (wrong := self.problems(records)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert wrong == [], wrong
        return records

    def stopped(self, command: int) -> Process | None:
        """Who stands at a marked point: of our VMs, or a helper of a command."""
        for process, _ in self.processes().values():
            if process.name == "era-fault":
                return process
        for name in read(f"/proc/{command}/task/{command}/children").split():
            if Process(int(name)).name == "era-fault":
                return Process(int(name))
        return None

    def kill_others(self, but: int) -> None:
        """Ends all of ours at once, except for one."""
        for pid in self.processes():
            if pid != but:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def works(self) -> None:
        """The next command works: create, run, clean."""
        vm = self.agent.create("--mem", LEAST_MEM)
        run = self.agent.run("vm", "run", "--vm", vm, "--cmd", "echo it works", check=True)
        assert pathlib.Path(run.json()["stdout"]).read_text() == "it works\n"
        self.agent.run("vm", "clean", "--vm", vm, check=True)

    def cleans_up(self) -> None:
        """After `clean` of all that is left nothing is."""
        self.agent.run("vm", "clean", "--all", check=True, timeout=60)
        assert self.check() == {}
        assert os.listdir(self.state / "volumes") == []
