# SPDX-License-Identifier: Apache-2.0
"""A full disk, no descriptors, no memory, calls that fail: a clear error with its code, and the state intact."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import resource
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import STATE, Agent, Result
from tests.crash import points
from tests.crash.host import Host
from tests.crash.ways import CREATE, PERSIST, way_of
from tests.image.ocilib import simple_layout

DISK_MIB = 12


class Disk:
    """A small file system for a state directory, in a mount namespace of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        script = (
            'mount -t tmpfs -o mode=0700,size=$1m era "$2" && mkdir "$2/images" && mount --bind "$3" "$2/images" && '
            'echo mounted && exec cat'
        )
        words = ["sh", "-c", script, "sh", str(DISK_MIB), str(self.state), str(STATE / "images")]
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.holder.stdout is not None and self.holder.stdout.readline() == b"mounted\n"
        program = folder / "agent"
        self.agent = Agent(self.state)
        program.write_text(f'#!/bin/sh\nexec nsenter --target {self.holder.pid} --mount "{self.agent.program}" "$@"\n')
        program.chmod(0o755)
        self.agent.program = program
        self.seen = pathlib.Path(f"/proc/{self.holder.pid}/root{self.state}")

    def fill(self) -> None:
        """Takes what is left, to the last byte."""
        with (self.seen / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 16, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def free(self) -> None:
        """Gives it back."""
        (self.seen / "filler").unlink()


@pytest.fixture
def disk(agent: Agent, tmp_path: pathlib.Path) -> Iterator[Disk]:
    """Nothing is left in it when the test is over."""
    if os.geteuid() != 0:
        pytest.skip("a small file system takes root to mount")
    disk = Disk(tmp_path)
    yield disk
    (disk.seen / "filler").unlink(missing_ok=True)
    disk.agent.run("vm", "clean", "--all", check=True)
    left = list((disk.seen / "vms").iterdir()) + list((disk.seen / "volumes").iterdir())
    disk.holder.communicate()
    assert left == []


def works(agent: Agent, vm: str) -> None:
    """A VM that is there, and a new one."""
    assert agent.sh(vm, "echo old").text == "old\n"
    other = agent.create("--mem", "64")
    assert agent.run("vm", "run", "--vm", other, "--cmd", "echo new", check=True).json()["truncated"] is False
    agent.clean(other)


def test_a_full_disk_refuses_a_vm_and_takes_nothing_from_others(disk: Disk) -> None:
    """disk_full, and no trace of the one that was asked for."""
    vm = disk.agent.create("--mem", "64")
    disk.fill()
    for words in (CREATE, PERSIST):
        assert disk.agent.run(*words).error()["code"] == "disk_full"
    assert disk.agent.run("vm", "list", "--all", "--quiet", check=True).text.split() == [vm]
    assert os.listdir(disk.seen / "vms") == [vm]
    disk.free()
    works(disk.agent, vm)


def test_a_full_disk_refuses_a_run_that_it_cannot_record(disk: Disk) -> None:
    """What is not recorded may go on: exec keeps no logs."""
    vm = disk.agent.create("--mem", "64")
    disk.fill()
    result = disk.agent.run("vm", "run", "--vm", vm, "--cmd", "echo text")
    assert result.error()["code"] == "disk_full"
    live = disk.agent.sh(vm, "echo here", check=False)
    assert live.text == "here\n" or live.error()["code"] == "disk_full"
    disk.free()
    assert disk.agent.status(vm) == "ready"
    works(disk.agent, vm)


def test_a_disk_that_fills_up_during_a_run(disk: Disk) -> None:
    """The command is not ended for it; how much of its output is missing is told, to the byte."""
    vm = disk.agent.create("--mem", "64")
    size = (DISK_MIB + 4) << 20
    result = disk.agent.run("vm", "run", "--vm", vm, "--cmd", f"head -c {size} /dev/zero; echo end >&2").json()
    assert (result["verdict"], result["exit_code"], result["truncated"]) == ("exited", 0, True)
    kept = len((disk.seen / "vms" / vm / "out" / "stdout.log").read_bytes().replace(b"\n", b"").split(b"[")[0])
    runs = disk.agent.run("vm", "show", "--vm", vm, check=True).json()
    assert 0 < kept < size and runs["status"] == "ready"
    disk.agent.clean(vm)


@pytest.mark.parametrize("free_kib", [0, 64])
def test_a_full_disk_refuses_a_volume(disk: Disk, free_kib: int) -> None:
    """Also where it fills up while the volume is made."""
    vm = disk.agent.create("--mem", "64")
    disk.fill()
    if free_kib:
        os.truncate(disk.seen / "filler", (disk.seen / "filler").stat().st_size - (free_kib << 10))
    result = disk.agent.run(*CREATE, "--persist", "--disk", "512")
    assert result.error()["code"] == "disk_full"
    assert os.listdir(disk.seen / "volumes") == []
    disk.free()
    works(disk.agent, vm)


def test_a_full_disk_refuses_an_image(disk: Disk, tmp_path: pathlib.Path) -> None:
    """And keeps nothing of it."""
    archive = simple_layout({"large": "x" * (DISK_MIB << 20)}).tar(tmp_path / "image.tar")
    subprocess.run(["nsenter", "-t", str(disk.holder.pid), "-m", "umount", disk.state / "images"], check=True)
    assert disk.agent.run("image", "import", str(archive)).error()["code"] == "disk_full"
    assert os.listdir(disk.seen / "images") == []


def with_limit(host: Host, what: int, limit: int, *words: str) -> Result:
    """A command under a limit of its process, which the shim inherits."""
    preexec: Callable[[], None] = lambda: resource.setrlimit(what, (limit, limit))
    done = subprocess.run(
        [host.agent.program, *words], env=host.agent.env, stdin=subprocess.DEVNULL, capture_output=True,
        preexec_fn=preexec, timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def is_right_or_refused(result: Result, codes: set[str]) -> bool:
    """Whether it worked; else it has said so, by a code of those."""
    if result.code == 0:
        return True
    told = [json.loads(line) for line in result.stderr.decode().splitlines()]
    assert result.code in (1, 2, 125) and told and told[-1]["code"] in codes, result
    return False


def test_without_descriptors(host: Host) -> None:
    """From too few for anything to enough: each time all of it or nothing."""
    codes = {"system_error", "state_error", "state_dir_unusable", "vm_start_failed", "helper_missing", "image_corrupt"}
    codes |= {"launcher_unavailable", "limit_unenforceable", "vm_busy", "image_not_found", "disk_full"}
    worked = []
    for limit in range(4, 40, 2):
        result = with_limit(host, resource.RLIMIT_NOFILE, limit, *CREATE)
        worked.append(is_right_or_refused(result, codes))
        if worked[-1]:
            host.agent.clean(str(result.json()["id"]))
        assert host.agent.run("vm", "list", "--all", "--quiet", check=True).text == ""
    assert not worked[0] and worked[-1]
    host.check()
    host.works()


def test_without_memory(host: Host) -> None:
    """The same for address space; the least is what lets the program start at all."""
    least = next(mib for mib in range(1, 64) if with_limit(host, resource.RLIMIT_AS, mib << 20, "version").code == 0)
    codes = {"out_of_memory", "system_error", "vm_start_failed", "state_error", "launcher_unavailable"}
    worked = []
    for kib in range(least << 10, (least + 6) << 10, 256):
        result = with_limit(host, resource.RLIMIT_AS, kib << 10, *CREATE)
        worked.append(is_right_or_refused(result, codes))
        if worked[-1]:
            host.agent.clean(str(result.json()["id"]))
        assert host.agent.run("vm", "list", "--all", "--quiet", check=True).text == ""
    assert worked[-1]
    host.check()
    host.works()


# Points around a call that fails: what the command says then.
SAID = {
    ("create.folder", "ENOSPC"): "disk_full",
    ("create.folder", "EIO"): "system_error",
    ("launch.sent", "EIO"): "vm_start_failed",
    ("keep.folder", "ENOSPC"): "disk_full",
    ("keep.folder", "EIO"): "system_error",
    ("child.step", "EIO"): "vm_start_failed",
    ("child.step", "ENOMEM"): "vm_start_failed",
}


def test_every_call_that_can_be_made_to_fail_has_its_word() -> None:
    """A new ERA_POINT_OR wants a line in SAID."""
    assert {name for name, _ in SAID} == points.failing()


@pytest.mark.parametrize(("point", "error"), SAID)
def test_a_call_that_fails(host: Host, point: str, error: str) -> None:
    """The error has a code, and nothing is half done."""
    way, plan = way_of(point), {"ERA_FAULT": f"{point}={error}"}
    vm = way.before(host.agent, plan if way.early else {})
    result = host.agent.run(*way.words(host.agent, vm), env={} if way.early else plan)
    assert result.error()["code"] == SAID[point, error]
    records = host.check()
    assert [(v, r["status"]) for v, r in records.items()] == ([(vm, "ready")] if vm else [])
    host.works()
    host.cleans_up()
