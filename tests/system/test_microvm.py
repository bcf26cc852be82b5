# SPDX-License-Identifier: Apache-2.0
"""Guests with a kernel of their own: what makes them different from each other, and what holds QEMU.

What every launcher promises is in the other files, which run for this one with AGENT_TEST_LAUNCHER=microvm.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import MICROVM, Agent, eventually, shim_of
from tests.system.machines import clock_is_right, clock_set_ahead, may_set_clock, qemu_of


class Machine:
    """A VM of this launcher."""

    def __init__(self, agent: Agent, *args: str, env: dict[str, str] | None = None) -> None:
        self.agent = agent
        made = agent.run(
            "vm", "create", "--language", "python", "--launcher", "microvm", *args, check=True, timeout=300, env=env
        )
        self.record = made.json()
        self.id = str(self.record["id"])

    def sh(self, command: str, **kwargs: object) -> str:
        """What a command line prints."""
        return self.agent.sh(self.id, command, "--timeout", "100", **kwargs).text

    def qemu(self) -> int:
        """The process id of its QEMU."""
        return qemu_of(self.agent, self.id)

    def status_of_qemu(self) -> dict[str, str]:
        """The lines of its /proc/PID/status."""
        lines = pathlib.Path(f"/proc/{self.qemu()}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def clean(self) -> None:
        """Removes it."""
        self.agent.clean(self.id)


@pytest.fixture
def machine(agent: Agent) -> Iterator[Machine]:
    """One without a network or a volume."""
    made = Machine(agent)
    yield made
    made.clean()


def templates_of(agent: Agent) -> dict[str, pathlib.Path]:
    """The templates of the state directory, by name."""
    folder = agent.state / "templates"
    return {path.name: path for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else {}


IDENTITY = (
    "cat /etc/machine-id; hostname; cat /proc/sys/kernel/random/boot_id; "
    "python3 -c 'import os, random, uuid; print(os.urandom(16).hex()); print(random.random()); print(uuid.uuid4())'"
)


def test_copies_of_one_machine_share_no_random_number(agent: Agent) -> None:
    """Machine id, name, boot id, and what Python draws: none of it is alike in any two."""
    copies = 200 if MICROVM else 8

    def draw(_: int) -> list[str]:
        machine = Machine(agent)
        try:
            return machine.sh(IDENTITY).split()
        finally:
            machine.clean()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        drawn = [word for words in pool.map(draw, range(copies)) for word in words]
    assert len(drawn) == copies * 6
    assert len(set(drawn)) == len(drawn)


def test_the_clock_is_the_hosts_within_ten_milliseconds(machine: Machine) -> None:
    """It was saved with the template, and is set anew in each copy."""
    right, seen = clock_is_right(machine.agent, machine.id)
    assert right, seen


@pytest.mark.skipif(not may_set_clock(), reason="needs CAP_SYS_TIME")
def test_the_clock_follows_when_that_of_the_host_is_set(machine: Machine) -> None:
    """Ahead, and back to where it was."""
    with clock_set_ahead(0.4):
        eventually(lambda: clock_is_right(machine.agent, machine.id)[0], 60)
    eventually(lambda: clock_is_right(machine.agent, machine.id)[0], 60)


def test_a_command_is_root_of_little(machine: Machine) -> None:
    """The capabilities of any guest, though the kernel is its own: those of modules, devices and mounts are not among."""
    lines = dict(line.split(":", 1) for line in machine.sh("cat /proc/self/status").splitlines())
    assert {lines[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")} == {"00000000800404fb"}
    assert lines["NoNewPrivs"].strip() == "1"
    refused = "mknod /tmp/d c 1 1; echo c > /proc/sysrq-trigger; echo x > /proc/sys/kernel/hostname; kill -9 1; echo alive"
    assert machine.sh(f"({refused}) 2>/dev/null") == "alive\n"
    assert machine.sh("ls /sys; ls /dev | grep -c -e vd -e vport; true") == "0\n"


def test_init_goes_before_all_commands(machine: Machine) -> None:
    """So that it is heard beside any number of busy ones."""
    assert machine.sh("cut -d' ' -f19 /proc/1/stat /proc/self/stat").split() == ["-20", "0"]


def test_qemu_is_nobody_and_may_nothing(machine: Machine) -> None:
    """A uid of the VM's own, no capability, no new privilege, a filter, and no file system of the host's."""
    status = machine.status_of_qemu()
    if os.geteuid() == 0:
        assert all(int(uid) >= 0x60000000 for uid in status["Uid"].split())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and status["NSpid"].split()[-1] == "1"
    root = pathlib.Path(f"/proc/{machine.qemu()}/root")
    assert {path.name for path in root.iterdir()} <= {"etc", "lib", "lib64", "usr"}
    assert {path.name for path in (root / "etc").iterdir()} == {"ld.so.cache"}
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "pid", "mnt", "net", "ipc", "uts")}
    assert all(os.readlink(f"/proc/{machine.qemu()}/ns/{name}") != link for name, link in own.items())


def test_qemu_cannot_write_what_others_run_on(machine: Machine) -> None:
    """The memory that copies share, the saved state, and the image are open for reading only."""
    files: dict[str, int] = {}
    folder = pathlib.Path(f"/proc/{machine.qemu()}")
    for fd in (folder / "fd").iterdir():
        target = os.readlink(fd)
        if target.startswith(str(machine.agent.state)):
            flags = int((folder / "fdinfo" / fd.name).read_text().split("flags:")[1].split()[0], 8)
            files[pathlib.Path(target).name] = flags & os.O_ACCMODE
    assert files.pop("rootfs.erofs") == os.O_RDONLY
    assert set(files.values()) <= {os.O_RDONLY}
    maps = (folder / "maps").read_text().splitlines()
    assert [line.split()[1][3] for line in maps if line.endswith("/memory")] == ["p"]


def test_a_guest_without_qemu_is_lost(machine: Machine) -> None:
    """The run ends with that verdict, and nothing is left running."""
    run = machine.agent.start("vm", "run", "--vm", machine.id, "--timeout", "100", "--cmd", "touch /x; sleep 100", stdout=-1)
    eventually(lambda: machine.agent.sh(machine.id, "test -e /x", check=False).code == 0, 60)
    qemu = machine.qemu()
    os.kill(qemu, signal.SIGKILL)
    out, _ = run.communicate(timeout=60)
    assert b'"verdict":"vm_lost"' in out and run.returncode == 125
    eventually(lambda: not pathlib.Path(f"/proc/{qemu}").exists())
    assert machine.agent.status(machine.id) == "stopped"


def test_a_killed_shim_takes_qemu_with_it(machine: Machine) -> None:
    """As it takes the guest of every launcher."""
    qemu = machine.qemu()
    os.kill(shim_of(machine.agent, machine.id), signal.SIGKILL)
    eventually(lambda: not pathlib.Path(f"/proc/{qemu}").exists())


def test_memory_is_what_was_asked_for(agent: Agent) -> None:
    """Who takes more is ended by the guest's kernel, and the verdict says so; the guest lives on."""
    machine = Machine(agent)
    try:
        program = "x = bytearray(300 << 20)"
        result = agent.run("vm", "run", "--vm", machine.id, "--timeout", "100", "--cmd", f"python3 -c '{program}'")
        assert result.json()["verdict"] == "oom_killed" and result.code == 137
        assert machine.sh("echo alive") == "alive\n"
    finally:
        machine.clean()


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_template_is_made_anew(agent: Agent, machine: Machine, damage: str) -> None:
    """Never used: the manifest tells how its files were when they were whole."""
    newest = max(templates_of(agent).values(), key=lambda path: (path / "manifest").stat().st_mtime)
    memory, state = newest / "memory", newest / "state"
    if damage == "cut":
        os.truncate(memory, memory.stat().st_size // 2)
    elif damage == "altered":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    else:
        memory.unlink()
    inode = newest.stat().st_ino
    other = Machine(agent)
    try:
        assert other.sh("echo well") == "well\n"
        assert newest.stat().st_ino != inode
        if damage != "cut":  # what is cut off under a living machine is gone for it as well
            assert machine.sh("echo well") == "well\n"
    finally:
        other.clean()


def test_templates_stay_within_their_budget(agent: Agent) -> None:
    """What was used least recently goes, but for what a guest runs on."""
    machine = Machine(agent)
    other = Machine(agent, "--mem", "128", env={"AGENT_TEMPLATE_BUDGET": "1"})
    machine.clean()
    try:
        left = templates_of(agent)
        assert len(left) <= 2  # the new one, and the one that was in use
    finally:
        other.clean()


def test_a_repacked_image_has_a_template_of_its_own(agent: Agent, machine: Machine) -> None:
    """A saved machine remembers where in the file of its image things are."""
    before = set(templates_of(agent))
    packed = next((agent.state / "images").glob("agent%2Fpython*/rootfs.erofs"))
    packed.unlink()
    other = Machine(agent)
    try:
        assert other.sh("python3 -c 'print(6 * 7)'") == "42\n"
        assert len(set(templates_of(agent)) - before) == 1
        assert machine.sh("echo well") == "well\n"
    finally:
        other.clean()


def test_doctor_says_what_is_known_of_kvm(agent: Agent, machine: Machine) -> None:
    """Whatever it is: it was tried, or there is none."""
    checks = {check["name"]: check for check in agent.run("doctor", check=True).json()["checks"]}
    assert checks["qemu"]["state"] == "ok"
    assert "not tried" not in checks["kvm"]["detail"]
    assert machine.record["launcher"] == "microvm"


def test_a_kernel_of_ones_own(agent: Agent, machine: Machine, tmp_path: pathlib.Path) -> None:
    """--kernel is kept by what is started again. One that lacks drivers is refused, and KVM's verdict is none of its making."""
    kernel = tmp_path / "kernel"
    shutil.copytree(agent.state / "images" / ".kernel", kernel)
    version = machine.sh("uname -r")
    verdict = agent.state / "templates" / "kvm"
    known = verdict.read_text() if verdict.exists() else None
    own = Machine(agent, "--kernel", str(kernel / "vmlinuz"))
    try:
        assert own.sh("uname -r") == version
        agent.run("vm", "stop", "--vm", own.id, check=True)
        (kernel / "vmlinuz").rename(kernel / "gone")
        assert agent.run("vm", "run", "--vm", own.id, "--cmd", "true").error()["code"] == "file_not_found"
        (kernel / "gone").rename(kernel / "vmlinuz")
        assert own.sh("uname -r") == version
    finally:
        own.clean()
    shutil.rmtree(kernel / "modules")
    create = ("vm", "create", "--language", "python", "--kernel", str(kernel / "vmlinuz"))
    refused = agent.run(*create, timeout=200).error()
    assert refused["code"] == "vm_start_failed" and "virtio-mmio" in str(refused["message"])
    assert (verdict.read_text() if verdict.exists() else None) == known
    assert agent.run(*create, "--launcher", "namespace").error()["field"] == "kernel"
    assert agent.run(*create, "--from", "x").code == 2


def test_want_of_memory_ends_a_command_at_once(agent: Agent) -> None:
    """The smallest guest, too: it does not throw its programs out and read them again until the time is up."""
    small = Machine(agent, "--mem", "96")
    try:
        told = agent.run("vm", "run", "--vm", small.id, "--cmd", "python3 -c 'bytearray(200 << 20)'").json()
        assert told["verdict"] == "oom_killed"
        assert small.sh("python3 -c 'print(42)'") == "42\n"
    finally:
        small.clean()
    for language, mem in (("python", "95"), ("node", "127")):
        words = ("vm", "create", "--language", language, "--launcher", "microvm", "--mem", mem)
        assert agent.run(*words).error()["field"] == "mem"


def test_a_machine_that_is_still_booting_can_be_interrupted(agent: Agent) -> None:
    """Its template is not made, and the VM never was."""
    before = set(templates_of(agent))
    words = ("vm", "create", "--language", "python", "--launcher", "microvm", "--mem", "104")
    create = agent.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: set(templates_of(agent)) > before)
    create.send_signal(signal.SIGINT)
    assert create.communicate(timeout=60) == (b"", b"")
    assert create.returncode == 130
    assert set(templates_of(agent)) == before
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
    assert list((agent.state / "vms").iterdir()) == []


def test_a_template_can_be_made_ahead(agent: Agent) -> None:
    """By image build, of the machine that is asked for; then the first VM of its kind is a copy. It leaves no VM."""
    before = set(templates_of(agent))
    build = ("image", "build", "python", "--template", "--mem", "112")
    assert agent.run(*build, check=True, timeout=300).json()["message"] == "image built"
    (made,) = set(templates_of(agent)) - before
    first = os.stat(agent.state / "templates" / made).st_ino
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""
    Machine(agent, "--mem", "112").clean()
    assert set(templates_of(agent)) - before == {made}
    assert os.stat(agent.state / "templates" / made).st_ino == first
    wrong = agent.run("image", "build", "python", "--mem", "112").error()
    assert wrong["code"] == "invalid_argument" and wrong["field"] == "mem"
