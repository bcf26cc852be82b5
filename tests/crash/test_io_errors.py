# SPDX-License-Identifier: Apache-2.0
"""A disk that breaks: calls on the files of the database and of an image fail, in our process and below SQLite."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from tests.conftest import Result
from tests.crash.host import Host
from tests.crash.test_exhaustion import is_right_or_refused
from tests.crash.ways import CREATE
from tests.image.ocilib import simple_layout

# Which call on which file, how, and from which time on: "1" once, "1+" always, "2+" after one that went well.
DATABASE = [
    (name, call, error, when)
    for name, calls in {
        "state.db": ("openat", "pread64"),
        "state.db-wal": ("openat", "pread64", "pwrite64"),
        "state.db-shm": ("openat", "pwrite64", "mmap", "ftruncate"),
    }.items()
    for call in calls
    for error in (("EIO",) if call in ("pread64", "mmap") else ("EIO", "ENOSPC"))
    for when in ("1", "1+", "2+")
]
NAME, IMAGE = "made/by-hand:1", "made%2Fby-hand%3A1"
CODES = {"state_error", "state_dir_unusable", "disk_full"}


def with_broken(host: Host, path: pathlib.Path | None, call: str, fault: str, *words: str) -> tuple[Result, int]:
    """A command of which a call fails, on a path or (by its children, too) wherever it is; and how often it did."""
    log = host.state.parent / "trace"
    where = ["-P", path] if path else ["-f"]
    done = subprocess.run(
        ["strace", "-o", log, "-e", f"trace={call}", "-e", f"inject={call}:{fault}", *where, host.agent.program, *words],
        env=host.agent.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr), log.read_text().count("(INJECTED)")


def is_whole(host: Host, vm: str) -> None:
    """Nothing is without an owner, the VM that was there before is there, and all goes on."""
    assert vm in host.check()
    assert host.agent.sh(vm, "echo here").text == "here\n"
    host.works()


@pytest.mark.parametrize(("name", "call", "error", "when"), DATABASE)
def test_a_database_on_a_broken_disk(host: Host, name: str, call: str, error: str, when: str) -> None:
    """All of a new VM or nothing of it, and a run that is told; what was there stays."""
    vm = host.agent.create("--mem", "64")
    failed = 0
    for words in (CREATE, ("vm", "run", "--vm", vm, "--cmd", "true"), ("vm", "list")):
        result, count = with_broken(host, host.state / name, call, f"error={error}:when={when}", *words)
        failed += count
        done = is_right_or_refused(result, CODES)
        assert done or count > 0, result
        if words == CREATE and done:
            host.agent.clean(str(result.json()["id"]))
    assert failed > 0 or when != "1+", "no such call"
    is_whole(host, vm)
    host.cleans_up()


def test_a_volume_is_not_written_to_before_its_record_is_on_the_disk(host: Host) -> None:
    """A power failure must not make its file one of nobody; so a disk that does not take the record gives no volume."""
    vm = host.agent.create("--mem", "64")  # the log is there: what is to be seen is not the sync of its beginning
    words = (*CREATE, "--persist", "--disk", "16")
    result, count = with_broken(host, host.state / "state.db-wal", "fsync,fdatasync", "error=EIO:when=1+", *words)
    assert count > 0 and result.error()["code"] == "state_error"
    is_whole(host, vm)
    host.cleans_up()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "syncfs", "renameat2", "mkdirat", "openat", "write", "copy_file_range"])
def test_an_image_on_a_broken_disk(host: Host, tmp_path: pathlib.Path, call: str, error: str) -> None:
    """One call fails, of ours or of who unpacks: a whole image or none."""
    archive = simple_layout({"etc/motd": "hello"}, name=NAME).tar(tmp_path / "image.tar")
    before = sorted(os.listdir(host.state / "images"))
    for when in ("2", "5", "9") if call == "openat" else ("1", "2", "5"):  # the first is of /dev/null, at our start
        result, count = with_broken(host, None, call, f"error={error}:when={when}", "image", "import", str(archive))
        if not is_right_or_refused(result, CODES | {"system_error", "image_invalid", "tool_failed"}):
            assert count > 0, result
        there = sorted(os.listdir(host.state / "images"))
        assert there in (before, sorted([*before, IMAGE])), there
        if IMAGE in there:
            vm = host.agent.create("--image", NAME, "--mem", "64")
            host.agent.clean(vm)
            host.agent.run("image", "remove", NAME, check=True)
    host.works()
