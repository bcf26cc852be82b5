# SPDX-License-Identifier: Apache-2.0
"""What a guest can write is bounded, in whatever way it is written, and is given back when it is deleted."""

from __future__ import annotations

import errno
import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import Agent
from tests.security.limits import assert_memory_bounded, assert_usable, output_of, run_program, sample, second_vm, witness

__all__ = ["second_vm", "witness"]
pytestmark = pytest.mark.usefixtures("witness")

MEM_MIB = 128
DISK_MIB = 64
WAYS = [
    "one_file_by_steps",
    "one_file_by_fallocate",
    "sparse_files",
    "deleted_files",
    "names",
    "folders",
    "links_to_one",
    "symbolic_links",
    "attributes",
]
CASES = [pytest.param(way, folder) for way in WAYS for folder in ("/tmp", "/dev/shm")]
CASES += [pytest.param(way, "/workspace/persist", marks=pytest.mark.as_root) for way in WAYS]


@pytest.fixture(scope="module")
def full_vm(agent: Agent) -> Iterator[str]:
    """A VM whose places are filled up and emptied again and again."""
    created = agent.create("--mem", str(MEM_MIB), "--persist", "--disk", str(DISK_MIB))
    yield created
    agent.clean(created)


def free(agent: Agent, vm: str, folder: str) -> tuple[int, int]:
    """Free KiB and free inodes of a file system, by the guest's own words."""
    words = agent.sh(vm, f"stat -f -c '%f %S %d' {folder}").text.split()
    return int(words[0]) * int(words[1]) >> 10, int(words[2])


def volume_file(agent: Agent, vm: str) -> pathlib.Path:
    """Where the volume lies on the host."""
    return next(path for path in (agent.state / "volumes").iterdir() if path.name.startswith(vm))


@pytest.mark.parametrize(("way", "folder"), sample(CASES, 3))
def test_a_place_is_full_some_time_and_empty_again(agent: Agent, full_vm: str, way: str, folder: str) -> None:
    """ENOSPC inside, neither VM nor host beyond their limits, and afterwards as much room as before."""
    before = free(agent, full_vm, folder)
    result = run_program(agent, full_vm, "fillers.py", way, folder)
    assert result["verdict"] == "exited", result
    end = json.loads(output_of(result))
    assert end["errno"] in (errno.ENOSPC, errno.EMLINK, errno.EMFILE), end
    assert volume_file(agent, full_vm).stat().st_blocks * 512 <= DISK_MIB << 20
    agent.sh(full_vm, f"rm -rf {folder}/fill")
    after = free(agent, full_vm, folder)
    grown = 2048 if folder == "/workspace/persist" else 64  # ext4 keeps the blocks of a folder that was large
    assert after[0] >= before[0] - grown and after[1] >= before[1] - 4, (before, after)
    assert_usable(agent, full_vm)
    assert_memory_bounded(agent, full_vm, MEM_MIB)


@pytest.mark.as_root
def test_a_full_volume_survives_its_vm(agent: Agent, full_vm: str) -> None:
    """Full to the last block, it is mounted again after a stop, and can be emptied."""
    agent.sh(full_vm, "head -c 1G /dev/zero > /workspace/persist/file", check=False)
    agent.run("vm", "stop", "--vm", full_vm, check=True)
    assert agent.sh(full_vm, "ls /workspace/persist").text == "file\n"
    agent.sh(full_vm, "rm /workspace/persist/file; echo word > /workspace/persist/file; rm /workspace/persist/file")


def test_what_the_image_holds_takes_no_room(agent: Agent, full_vm: str) -> None:
    """Deleting files of the image frees nothing, and copies of them are written files as any."""
    before = free(agent, full_vm, "/")
    agent.sh(full_vm, "cp -a /usr/share /tmp/fill 2>/dev/null; rm -rf /tmp/fill; rm -rf /usr/share/zoneinfo")
    after = free(agent, full_vm, "/")
    assert before[0] - 64 <= after[0] <= before[0]
