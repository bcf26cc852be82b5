# SPDX-License-Identifier: Apache-2.0
"""As test_places.py, of guests with a kernel of their own: QEMU, its shim, its templates, snapshots and forks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import LEAST_MEM, STATE, Agent, eventually, link_images
from tests.crash.host import Host
from tests.crash.test_places import came_to_rest, recovers, stand
from tests.crash.ways import CREATE, Passage, machine_places

pytestmark = [pytest.mark.microvm_only, pytest.mark.as_root]

# To make one anew takes seconds.
WITHOUT_TEMPLATES = [place for place in machine_places() if not place.startswith("template.")]


@pytest.fixture(scope="module")
def host(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """With a kernel, with what is known of KVM, and with a template."""
    state: pathlib.Path = tmp_path_factory.mktemp("machines") / "state"
    state.mkdir(mode=0o700)
    link_images(state)
    subprocess.run(["cp", "-al", STATE / "images" / ".kernel", state / "images"], check=True)
    host = Host(Agent(state))
    host.works()
    yield host
    host.kill_others(0)
    host.agent.run("vm", "clean", "--all", timeout=60)


@pytest.mark.parametrize("place", machine_places())
def test_killed_at(host: Host, place: str) -> None:
    """The process ends there, at once."""
    Passage(host.agent, place, "kill").end(180)
    recovers(host)


@pytest.mark.parametrize("place", [*WITHOUT_TEMPLATES, "template.begun", "template.booted"])
def test_stopped_and_then_killed_at(host: Host, place: str) -> None:
    """Others can look meanwhile."""
    passage, stopped = stand(host, place)
    host.agent.run("vm", "list", "--all", check=True, timeout=60)
    os.kill(stopped.pid, signal.SIGKILL)
    passage.end(180)
    recovers(host)


@pytest.mark.parametrize("place", WITHOUT_TEMPLATES)
def test_everybody_else_killed_while_at(host: Host, place: str) -> None:
    """It goes on into a world that is not the one that it left."""
    passage, stopped = stand(host, place)
    own = passage.command.pid
    if stopped.pid != own:
        passage.command.kill()
    host.kill_others(stopped.pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped.pid, signal.SIGCONT)
    passage.end(180)
    if stopped.pid != own:
        eventually(lambda: came_to_rest(stopped.pid), 60)
    recovers(host)


@pytest.mark.parametrize("name", ["memory", "state", "manifest"])
@pytest.mark.parametrize("damage", ["cut", "altered", "emptied", "gone"])
def test_a_template_of_which_a_file_is(host: Host, name: str, damage: str) -> None:
    """Never used, and made anew: also where the file has its size and its times."""
    template, = (path for path in (host.state / "templates").iterdir() if path.is_dir())
    file, inode = template / name, template.stat().st_ino
    before = file.stat()
    if damage == "cut":
        os.truncate(file, before.st_size - 1)
    elif damage == "altered":
        with file.open("r+b") as open_file:
            open_file.seek(before.st_size // 2)
            byte = open_file.read(1)
            open_file.seek(before.st_size // 2)
            open_file.write(bytes([byte[0] ^ 1]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif damage == "emptied":
        os.truncate(file, 0)
    else:
        file.unlink()
    host.works()
    template, = (path for path in (host.state / "templates").iterdir() if path.is_dir())
    assert template.stat().st_ino != inode
    host.cleans_up()


@pytest.mark.parametrize("size_mib", [0, 8])
def test_a_disk_that_is_full_when_a_template_is_made(host: Host, size_mib: int) -> None:
    """disk_full, and nothing of it is left; later there is room."""
    folder = host.state / "templates"
    aside = host.state.parent / "templates-aside"
    shutil.copytree(folder, aside)
    size = f"size={size_mib}m" if size_mib else "size=64k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{size},mode=700", "tmpfs", str(folder)], check=True)
    try:
        shutil.copy(aside / "kvm", folder)
        result = host.agent.run(*CREATE, timeout=180)
        assert result.error()["code"] == "disk_full", result
        assert [path for path in folder.iterdir() if path.is_dir()] == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(aside)
    recovers(host)


def test_two_hundred_creates_and_cleans_side_by_side(host: Host) -> None:
    """Eight at a time, some with a volume or a network, some stopped or forked before: nothing of any is left."""
    def live(number: int) -> None:
        more = {0: ("--persist", "--disk", "16"), 1: ("--network", "allow_all")}.get(number % 4, ())
        vms = [host.agent.create("--mem", LEAST_MEM, *more)]
        if number % 16 == 2:
            vms += [str(one["id"]) for one in host.agent.run("vm", "fork", "--vm", vms[0], check=True).lines()]
        for vm in vms:
            assert host.agent.sh(vm, "echo here").text == "here\n"
            if number % 8 == 3:
                host.agent.run("vm", "stop", "--vm", vm, check=True)
            host.agent.run("vm", "clean", "--vm", vm, check=True)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(live, range(200)))
    assert host.check() == {}
    assert os.listdir(host.state / "volumes") == []
    host.works()
    host.cleans_up()
