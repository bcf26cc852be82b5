# SPDX-License-Identifier: Apache-2.0
"""VMs that stand still, are saved, and go on as others: the launcher microvm alone can do it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually, shim_of
from tests.system.machines import clock_is_right, qemu_of

COUNTER = """
import os, sys, time
count = 1000
while True:
    count += 1
    with open("/tmp/count.new", "w") as file:
        file.write(str(count))
    os.rename("/tmp/count.new", "/tmp/count")
    time.sleep(0.01)
"""


def create(agent: Agent, *args: str) -> str:
    """A VM that can be saved."""
    return agent.create("--launcher", "microvm", *args)


def count(agent: Agent, vm: str) -> int:
    """How far the counter of a VM has come."""
    return int(agent.sh(vm, "cat /tmp/count").text)


def start_counter(agent: Agent, vm: str, tmp_path: pathlib.Path) -> None:
    """Starts a program that counts in memory."""
    program = tmp_path / "counter.py"
    program.write_text(COUNTER)
    agent.run("vm", "cp", str(program), f"{vm}:/tmp/counter.py", check=True)
    agent.sh(vm, "(python3 /tmp/counter.py >/dev/null 2>&1 &); while ! test -e /tmp/count; do sleep 0.05; done")


def remove_snapshots(agent: Agent) -> None:
    """All there are."""
    for snapshot in agent.run("snapshot", "list", "--output", "json", check=True).lines():
        agent.run("snapshot", "remove", snapshot["name"], check=True)


@pytest.fixture(scope="module")
def forks(agent: Agent) -> Iterator[list[str]]:
    """Ids of VMs that are removed in the end, with all snapshots."""
    vms: list[str] = []
    remove_snapshots(agent)
    yield vms
    for vm in vms:
        agent.clean(vm)
    remove_snapshots(agent)


@pytest.fixture(scope="module")
def parent(agent: Agent, forks: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A VM with a volume, in which a program counts."""
    vm = create(agent, "--persist", "--disk", "32", "--env", "COLOUR=blue")
    forks.append(vm)
    agent.sh(vm, "echo root > /root/file; echo volume > /workspace/persist/file")
    start_counter(agent, vm, tmp_path_factory.mktemp("counter"))
    return vm


def test_a_snapshot_goes_on_where_the_vm_was(agent: Agent, parent: str, forks: list[str]) -> None:
    """Memory, processes and files; then each goes its own way."""
    before = count(agent, parent)
    agent.run("vm", "snapshot", "--vm", parent, "--name", "warm", check=True)
    after = count(agent, parent)
    vm = str(agent.run("vm", "create", "--from", "warm", check=True).json()["id"])
    forks.append(vm)
    eventually(lambda: count(agent, vm) > before)
    assert agent.sh(vm, "cat /proc/[0-9]*/cmdline").stdout.count(b"/tmp/counter.py") >= 1
    assert agent.sh(vm, "cat /root/file /workspace/persist/file; echo $COLOUR; hostname").text.split() == [
        "root", "volume", "blue", vm]
    agent.sh(vm, "echo fork > /root/file; echo fork > /workspace/persist/file")
    assert agent.sh(parent, "cat /root/file /workspace/persist/file").text.split() == ["root", "volume"]
    assert after < count(agent, parent)
    listed = agent.run("snapshot", "list", "--output", "json", check=True).lines()
    assert [(s["name"], s["vm"]) for s in listed] == [("warm", parent)]


def test_a_snapshot_counts_on_from_its_moment(agent: Agent, parent: str, forks: list[str]) -> None:
    """A second VM of it begins where the first did, whatever happened since."""
    agent.run("vm", "snapshot", "--vm", parent, "--name", "moment", check=True)
    saved = count(agent, parent)
    eventually(lambda: count(agent, parent) > saved + 500, 60)
    vm = str(agent.run("vm", "create", "--from", "moment", check=True).json()["id"])
    forks.append(vm)
    assert 1000 < count(agent, vm) < count(agent, parent)


def test_forks_have_randomness_names_and_clocks_of_their_own(agent: Agent, parent: str, forks: list[str]) -> None:
    """What the kernel gives is never the same twice."""
    made = [str(vm["id"]) for vm in agent.run("vm", "fork", "--vm", parent, "--count", "3", check=True).lines()]
    forks.extend(made)
    assert len(set(made)) == 3
    told = [agent.sh(vm, "od -An -N16 -tx1 /dev/urandom | tr -d ' '; cat /etc/machine-id; hostname").text for vm in made]
    words = [word for text in told for word in text.split()]
    assert len(words) == 9 and len(set(words)) == 9
    for vm in made:
        apart = float(agent.sh(vm, "date +%s.%N").text) - time.time()
        assert -10 < apart < 1, "within what a busy host takes to ask"
    assert not list((agent.state / "snapshots").glob(".*")), "a fork leaves no snapshot"


DRAWER = """
import os
def machine():
    with open("/etc/machine-id") as file:
        return file.read()
begun, count = machine(), 0
open("/tmp/drawing", "w").close()
while True:
    drawn = os.urandom(8).hex()
    if machine() != begun:
        break
    last, count = drawn, count + 1
with open("/tmp/drawn.new", "w") as file:
    file.write(f"{count} {last}")
os.rename("/tmp/drawn.new", "/tmp/drawn")
"""


def test_commands_of_a_fork_do_nothing_before_it_is_reseeded(agent: Agent, forks: list[str], tmp_path: pathlib.Path) -> None:
    """Who draws random numbers all the time has drawn the same last one, as the VM that it was, in every fork."""
    vm = create(agent)
    forks.append(vm)
    (tmp_path / "drawer.py").write_text(DRAWER)
    agent.run("vm", "cp", str(tmp_path / "drawer.py"), f"{vm}:/tmp/drawer.py", check=True)
    agent.sh(vm, "(python3 /tmp/drawer.py >/dev/null 2>&1 &); until test -e /tmp/drawing; do sleep 0.05; done")
    made = [str(one["id"]) for one in agent.run("vm", "fork", "--vm", vm, "--count", "4", check=True).lines()]
    forks.extend(made)
    drawn = [agent.sh(one, "until test -e /tmp/drawn; do sleep 0.05; done; cat /tmp/drawn").text for one in made]
    assert len(set(drawn)) == 1 and int(drawn[0].split()[0]) > 0, drawn
    assert agent.sh(vm, "test -e /tmp/drawn", check=False).code == 1
    agent.clean(vm)  # where it draws on for ever


def test_a_run_under_way_goes_on_in_the_background(agent: Agent, forks: list[str]) -> None:
    """Its client is the parent's: in the fork it has none, and lives on."""
    vm = create(agent)
    forks.append(vm)
    run = agent.start("vm", "exec", "--vm", vm, "--timeout", "300", "--cmd",
                      "touch /tmp/begun; until test -e /tmp/end; do sleep 0.1; done; echo over > /tmp/over; echo said",
                      stdout=subprocess.PIPE)
    eventually(lambda: agent.sh(vm, "test -e /tmp/begun", check=False).code == 0)
    fork = str(agent.run("vm", "fork", "--vm", vm, check=True).json()["id"])
    forks.append(fork)
    agent.sh(fork, "touch /tmp/end; until test -e /tmp/over; do sleep 0.1; done")
    assert run.poll() is None
    agent.sh(vm, "touch /tmp/end")
    assert run.communicate(timeout=60)[0] == b"said\n" and run.returncode == 0


def test_forks_of_a_vm_that_talks_to_nobody(agent: Agent, forks: list[str]) -> None:
    """What a run says whose client is gone is heard and dropped: none of that is half done when the VM is saved."""
    vm = create(agent)
    forks.append(vm)
    for _ in range(2):
        talk = agent.start("vm", "exec", "--vm", vm, "--timeout", "300", "--", "python3", "-uc",
                           "import time\nwhile True: print(); time.sleep(0.002)", stdout=subprocess.PIPE)
        talk.stdout.read(20)
        talk.kill()
        talk.wait()
    for _ in range(5):
        made = [str(one["id"]) for one in agent.run("vm", "fork", "--vm", vm, "--count", "2", check=True).lines()]
        forks.extend(made)
        for one in (vm, *made):
            assert agent.sh(one, "echo here").text == "here\n"
        for one in made:
            agent.clean(one)
    agent.clean(vm)


NODE = """
const fs = require("fs"), os = require("os");
let count = 0;
const kernels = fs.openSync("/dev/urandom"), bytes = Buffer.alloc(16);  // what OpenSSL and its cache hold is alike in all forks
setInterval(() => {
  const cards = Object.values(os.networkInterfaces()).flat().filter((card) => !card.internal && card.family === "IPv4");
  fs.readSync(kernels, bytes);
  const told = [++count, bytes.toString("hex"), cards[0].mac, cards[0].address, fs.readFileSync("persist/file", "utf8").trim()];
  fs.writeFileSync("/tmp/told.new", told.join(" "));
  fs.renameSync("/tmp/told.new", "/tmp/told");
}, 50);
"""


def test_a_node_vm_with_a_network_and_a_volume_forks(agent: Agent, forks: list[str], tmp_path: pathlib.Path) -> None:
    """Its program goes on in each, with a card, random numbers of the kernel and a volume of its own."""
    vm = agent.create("--launcher", "microvm", "--network", "allow_all", "--persist", "--disk", "16", language="node")
    forks.append(vm)
    (tmp_path / "program.js").write_text(NODE)
    agent.run("vm", "cp", str(tmp_path / "program.js"), f"{vm}:/workspace/in/program.js", check=True)
    agent.sh(vm, "echo kept > persist/file; (node in/program.js >/dev/null 2>&1 &); until test -e /tmp/told; do sleep 0.1; done")
    made = [str(one["id"]) for one in agent.run("vm", "fork", "--vm", vm, "--count", "2", check=True).lines()]
    forks.extend(made)
    for one in made:
        agent.sh(one, "echo own > persist/file; until grep -q own /tmp/told; do sleep 0.1; done")
    told = [agent.sh(one, "cat /tmp/told").text.split() for one in (vm, *made)]
    assert len({words[1] for words in told}) == 3 and len({words[2] for words in told}) == 3
    assert [words[3:] for words in told] == [["10.0.2.15", word] for word in ("kept", "own", "own")]


def test_pause_and_resume(agent: Agent, parent: str) -> None:
    """A paused VM does nothing, refuses commands, and goes on."""
    agent.run("vm", "pause", "--vm", parent, check=True)
    try:
        assert agent.status(parent) == "paused"
        assert agent.sh(parent, "true", check=False).error()["code"] == "vm_paused"
        agent.run("vm", "pause", "--vm", parent, check=True)
    finally:
        agent.run("vm", "resume", "--vm", parent, check=True)
    assert agent.status(parent) == "ready"
    before = count(agent, parent)
    eventually(lambda: count(agent, parent) > before)
    right, seen = clock_is_right(agent, parent)
    assert right, seen


def test_the_time_of_a_run_stands_still_with_its_vm(agent: Agent, parent: str) -> None:
    """A pause that is longer than the timeout kills nothing."""
    agent.sh(parent, "rm -f /tmp/on /tmp/go")
    run = agent.start("vm", "exec", "--vm", parent, "--timeout", "10", "--cmd",
                      "touch /tmp/on; until test -e /tmp/go; do sleep 0.05; done; echo said", stdout=subprocess.PIPE)
    eventually(lambda: agent.sh(parent, "test -e /tmp/on", check=False).code == 0)
    agent.run("vm", "pause", "--vm", parent, check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        run.communicate(timeout=11)
    agent.run("vm", "resume", "--vm", parent, check=True)
    agent.sh(parent, "touch /tmp/go")
    assert run.communicate(timeout=60)[0] == b"said\n" and run.returncode == 0


def test_a_guest_that_holds_still_too_late_goes_on(agent: Agent, forks: list[str]) -> None:
    """It is told so, whoever else speaks to it; and what it says late is not taken for its next answer."""
    vm = create(agent)
    forks.append(vm)
    run = agent.start("vm", "exec", "--vm", vm, "--timeout", "120", "--cmd", "while :; do echo alive; sleep 0.1; done",
                      stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"alive\n"
    qemu = qemu_of(agent, vm)
    os.kill(qemu, signal.SIGSTOP)
    try:
        assert agent.run("vm", "pause", "--vm", vm).error()["code"] == "vm_busy"
    finally:
        os.kill(qemu, signal.SIGCONT)
    for _ in range(30):
        assert run.stdout.readline() == b"alive\n"
    agent.run("vm", "snapshot", "--vm", vm, "--name", "late", check=True)
    forks.append(str(agent.run("vm", "create", "--from", "late", check=True).json()["id"]))
    right, seen = clock_is_right(agent, forks[-1])
    assert right, seen
    for _ in range(10):
        assert run.stdout.readline() == b"alive\n"
    run.kill()
    run.wait()


def test_a_paused_vm_is_stopped_and_cleaned(agent: Agent) -> None:
    """As any other: what was on its volume is kept by a stop."""
    vm = create(agent, "--persist", "--disk", "32")
    agent.sh(vm, "echo kept > /workspace/persist/file")
    agent.run("vm", "pause", "--vm", vm, check=True)
    agent.run("vm", "stop", "--vm", vm, check=True)
    assert agent.sh(vm, "cat /workspace/persist/file").text == "kept\n"
    agent.run("vm", "pause", "--vm", vm, check=True)
    agent.run("vm", "clean", "--vm", vm, check=True)


def test_what_is_refused(agent: Agent, parent: str, forks: list[str]) -> None:
    """Each with its code."""
    def code(*args: str) -> str:
        return str(agent.run(*args).error()["code"])

    agent.run("vm", "snapshot", "--vm", parent, "--name", "taken", check=True)
    assert code("vm", "snapshot", "--vm", parent, "--name", "taken") == "snapshot_exists"
    assert code("vm", "snapshot", "--vm", parent, "--name", "../up") == "invalid_argument"
    assert code("vm", "snapshot", "--vm", "python-1", "--name", "other") == "vm_not_found"
    assert code("vm", "create", "--from", "absent") == "snapshot_not_found"
    assert code("snapshot", "remove", "absent") == "snapshot_not_found"
    assert code("vm", "create", "--from", "taken", "--mem", "512") == "invalid_argument"
    assert code("vm", "fork", "--vm", parent, "--count", "101") == "invalid_argument"
    other = agent.create("--launcher", "namespace")
    forks.append(other)
    for words in (["pause"], ["resume"], ["fork"], ["snapshot", "--name", "other"]):
        assert code("vm", words[0], "--vm", other, *words[1:]) == "not_supported", words


@pytest.mark.parametrize("name", ["memory", "state", "volume.img", "snapshot.json"])
def test_a_damaged_snapshot_is_refused(agent: Agent, parent: str, name: str) -> None:
    """Cut short by a byte: never gone on from."""
    saved = "cut-" + name[:3]
    agent.run("vm", "snapshot", "--vm", parent, "--name", saved, check=True)
    file = agent.state / "snapshots" / saved / name
    os.truncate(file, file.stat().st_size - 1)
    assert agent.run("vm", "create", "--from", saved).error()["code"] == "snapshot_corrupt"


def test_a_shim_that_is_killed_leaves_no_half_snapshot(agent: Agent) -> None:
    """Whenever it dies, there is the whole of it or nothing."""
    for delay in (0, 0.03, 0.1):
        vm = create(agent)
        saving = agent.start("vm", "snapshot", "--vm", vm, "--name", "half", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            saving.wait(delay)
        os.kill(shim_of(agent, vm), signal.SIGKILL)
        saving.communicate(timeout=60)
        listed = agent.run("snapshot", "list", "--output", "json", check=True).lines()
        assert ("half" in [s["name"] for s in listed]) == (saving.returncode == 0)
        assert not list((agent.state / "snapshots").glob(".*"))
        if saving.returncode == 0:
            agent.run("snapshot", "remove", "half", check=True)
        agent.clean(vm)


@pytest.mark.as_root
def test_a_full_disk_leaves_no_half_snapshot(agent: Agent) -> None:
    """It is told, and the VM goes on."""
    vm = create(agent)
    folder = agent.state / "snapshots"
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        assert agent.run("vm", "snapshot", "--vm", vm, "--name", "full").error()["code"] == "disk_full"
        assert agent.run("vm", "fork", "--vm", vm).error()["code"] == "disk_full"
        assert list(folder.iterdir()) == []
        assert agent.sh(vm, "echo on").text == "on\n"
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        agent.clean(vm)
