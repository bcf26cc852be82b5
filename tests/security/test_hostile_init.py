# SPDX-License-Identifier: Apache-2.0
"""What a guest could say whose init is its own: see hostile_init.c. The shim must end it, and stay small."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BUILD, MICROVM, STATE, Agent, eventually, groups_of, processes_of, shim_of

SHIM_KIB_MAX = 8 * 1024  # with all that it may have to hold for a run: two windows, one backlog


class Stage(Agent):
    """The program with a hostile init beside its shim, on a state directory of its own."""

    def __init__(self, folder: pathlib.Path, hostile_init: pathlib.Path) -> None:
        super().__init__(folder / "state")
        self.state.mkdir(mode=0o700)
        (self.state / "images").mkdir()
        for name in ("agent%2Fpython%3A3.11", ".kernel") if MICROVM else ("agent%2Fpython%3A3.11",):
            subprocess.run(["cp", "-al", STATE / "images" / name, self.state / "images" / name], check=True)
        programs = folder / "programs"
        programs.mkdir()
        for name in ("agent", "era-shim", "era-unpack"):
            shutil.copy2(BUILD / "src" / "main" / name, programs / name)
        shutil.copy2(hostile_init, programs / "era-init")
        self.program = programs / "agent"

    def hostile(self, deed: str) -> str:
        """A VM whose init does this."""
        return self.create("--env", f"HOSTILE={deed}")

    def memory_kib(self, vm: str) -> int:
        """The most that the VM's shim has held so far; 0 when it is gone."""
        try:
            status = pathlib.Path(f"/proc/{shim_of(self, vm)}/status").read_text()
            return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
        except (AssertionError, OSError, StopIteration):
            return 0

    def left(self) -> list[str]:
        """What is still there of any VM of this state directory."""
        folders = [path.name for path in (self.state / "vms").iterdir()]
        return [*folders, *map(str, processes_of(self.state)), *(str(g) for name in folders for g in groups_of(name))]


@pytest.fixture(scope="module")
def stage(agent: Agent, programs: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """With two starts under way that will come to nothing when the shim has waited long enough."""
    made = Stage(tmp_path_factory.mktemp("stage"), programs / "hostile_init")
    try:
        yield made
    finally:
        made.run("vm", "clean", "--all")
        eventually(lambda: processes_of(made.state) == [])


@pytest.fixture(scope="module")
def starts(stage: Stage) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Begun first and looked at last: the shim waits 30 seconds for a guest."""
    words = ("vm", "create", "--language", "python", "--env")
    begun = {
        deed: stage.start(*words, f"HOSTILE={deed}", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for deed in ("never_ready", "half_ready")
    }
    try:
        yield begun
    finally:
        for start in begun.values():
            start.kill()
            start.communicate()


def test_the_stage_works(stage: Stage, starts: dict[str, subprocess.Popen[bytes]]) -> None:
    """An init that says ready and nothing else makes a VM: so what follows fails for what is said."""
    vm = stage.hostile("silence")
    assert stage.status(vm) == "ready"
    stage.clean(vm)


@pytest.mark.parametrize(
    "deed", ["gone_at_once", "rubbish", "end_before_ready", "ready_with_freight", "ready_of_a_stream"]
)
def test_no_start_of_an_init_that(stage: Stage, deed: str) -> None:
    """Refused at once, with nothing left."""
    before = set(stage.left())
    result = stage.run("vm", "create", "--language", "python", "--env", f"HOSTILE={deed}")
    assert result.error()["code"] == "vm_start_failed", result
    eventually(lambda: set(stage.left()) <= before)


@pytest.mark.parametrize("deed", [
    *("claim_too_long", "unknown_type", "type_zero", "reserved_bits", "stream_of_nobody", "stream_zero"),
    *("ready_again", "frames_of_the_shim", "launched", "more_than_a_frame_may_hold", "empty_output", "empty_windows"),
    *("window_that_overflows", "window_of_a_gigabyte", "window_of_output", "window_cut_short"),
    *("status_that_is_none", "errno_that_is_none", "huge_numbers", "end_cut_short", "end_without_end_of_text", "death"),
])
def test_the_vm_is_lost_whose_init_says(stage: Stage, deed: str) -> None:
    """The shim ends what breaks a rule: the run says so, and nothing is left but the record."""
    vm = stage.hostile(deed)
    result = stage.run("vm", "run", "--vm", vm, "--cmd", "true", "--timeout", "20")
    assert result.code == 125 and result.json()["verdict"] == "vm_lost", result
    eventually(lambda: stage.status(vm) == "stopped" and groups_of(vm) == [])
    stage.clean(vm)


def test_ending_a_run_twice(stage: Stage) -> None:
    """The first end counts; the second is of a stream that is none, and ends the VM."""
    vm = stage.hostile("end_twice")
    assert stage.run("vm", "run", "--vm", vm, "--cmd", "true").json()["verdict"] == "exited"
    eventually(lambda: stage.status(vm) == "stopped")
    stage.clean(vm)


def test_silence_at_a_run(stage: Stage) -> None:
    """The time is up nevertheless: a guest that does not end the run is ended."""
    vm = stage.hostile("silence")
    result = stage.run("vm", "run", "--vm", vm, "--cmd", "true", "--timeout", "1")
    assert result.code == 124 and result.json()["verdict"] == "timed_out"
    eventually(lambda: stage.status(vm) == "stopped")
    stage.clean(vm)


def test_silence_at_a_stop(stage: Stage) -> None:
    """A guest that does not shut down is killed when its grace is over."""
    vm = stage.hostile("silence")
    stage.run("vm", "stop", "--vm", vm, check=True)
    assert stage.status(vm) == "stopped"
    stage.clean(vm)


def test_a_flood_of_output_that_is_never_ready_to_listen(stage: Stage) -> None:
    """For each byte the shim owes it an answer, which it does not read: they must not pile up."""
    vm = stage.hostile("output_without_reading")
    peaks = [stage.memory_kib(vm)]
    words = ("vm", "run", "--vm", vm, "--cmd", "true", "--timeout", "2")
    run = stage.start(*words, stdout=subprocess.PIPE)

    def over() -> bool:
        peaks.append(stage.memory_kib(vm))
        return run.poll() is not None

    eventually(over)
    assert run.stdout is not None and json.loads(run.stdout.read())["verdict"] == "timed_out"
    assert max(peaks) < SHIM_KIB_MAX
    stage.clean(vm)


def test_a_flood_at_a_client_that_does_not_read(stage: Stage) -> None:
    """More than the window lets it send ends the VM, and not the host's memory."""
    vm = stage.hostile("more_than_the_window")
    shim = shim_of(stage, vm)
    client = stage.start("vm", "exec", "--vm", vm, "--cmd", "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: not pathlib.Path(f"/proc/{shim}/exe").exists() or stage.status(vm) == "stopped")
    out, _ = client.communicate(timeout=30)
    assert client.returncode == 125 and len(out) <= 4 << 20
    stage.clean(vm)


def test_words_that_are_no_text(stage: Stage, tmp_path: pathlib.Path) -> None:
    """An error of the guest's with control characters and bytes that are no UTF-8 is one JSON object all the same."""
    vm = stage.hostile("odd_words")
    result = stage.run("vm", "cp", f"{vm}:/etc/passwd", str(tmp_path / "copy"))
    assert result.error()["code"] == "copy_failed"
    assert b"\x1b" not in result.stderr and not (tmp_path / "copy").exists()
    stage.clean(vm)


@pytest.mark.parametrize("deed", [
    *("tree_outside", "tree_absolute", "tree_through_a_link", "tree_through_its_own_link", "tree_with_setuid"),
    *("tree_cut_short", "tree_without_end"),
])
def test_a_copy_that_leads_out_of_its_place(stage: Stage, tmp_path: pathlib.Path, deed: str) -> None:
    """Whatever the stream of a `vm cp` names, nothing is written but below the target."""
    vm = stage.hostile(deed)
    target = tmp_path / "outer" / "target"
    target.mkdir(parents=True)
    result = stage.run("vm", "cp", f"{vm}:/workspace/out", str(target))
    assert result.code == 1 and result.error()["code"], result
    assert [path.name for path in tmp_path.iterdir()] == ["outer"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    for path in target.rglob("*"):
        assert "escaped" not in path.name and not path.lstat().st_mode & 0o7000, path
    assert not os.path.exists("/tmp/era-escaped")
    stage.clean(vm)


@pytest.mark.microvm_only
@pytest.mark.parametrize("deed", ["more_behind_still", "still_twice", "dead_when_still"])
def test_a_pause_of_an_init_that_is(stage: Stage, deed: str) -> None:
    """Refused, and the VM is gone; or it stands still, and what came too much ends it when it goes on."""
    vm = stage.hostile(deed)
    paused = stage.run("vm", "pause", "--vm", vm)
    if paused.code == 0:
        stage.run("vm", "resume", "--vm", vm)
    else:
        assert paused.error()["code"] == "vm_busy"
    stage.clean(vm)
    eventually(lambda: not any(vm in left for left in stage.left()))


@pytest.mark.microvm_only
@pytest.mark.parametrize("deed", ["never_still", "half_still"])
def test_a_pause_of_an_init_that_does_not_hold_still(stage: Stage, deed: str) -> None:
    """Refused after ten seconds, also when half of the word was said; the VM can be cleaned."""
    vm = stage.hostile(deed)
    assert stage.run("vm", "pause", "--vm", vm).error()["code"] == "vm_busy"
    assert stage.run("vm", "snapshot", "--vm", vm, "--name", "never").error()["code"] == "vm_busy"
    assert stage.run("snapshot", "list", "--output", "json", check=True).text == ""
    stage.clean(vm)


@pytest.mark.parametrize("deed", ["never_ready", "half_ready"])
def test_waiting_for_ever_for_an_init_that_is(
    stage: Stage, starts: dict[str, subprocess.Popen[bytes]], deed: str
) -> None:
    """The start fails after half a minute, also when the first half of the word was said; nothing is left."""
    out, err = starts[deed].communicate(timeout=60)
    assert starts[deed].returncode == 1 and out == b""
    assert json.loads(err)["code"] == "vm_start_failed"
    eventually(lambda: stage.left() == [])
