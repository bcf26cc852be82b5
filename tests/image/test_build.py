# SPDX-License-Identifier: Apache-2.0
"""`agent image build`: that a build which is cut short leaves nothing, neither files nor processes nor mounts."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from tests.image.ocilib import AGENT, Images


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "state")


def processes_of(folder):
    """Whoever works in a folder, or below."""
    found = []
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        for link in ("cwd", "root"):
            try:
                if os.readlink(process / link).startswith(str(folder)):
                    found.append((process.name, (process / "comm").read_text().strip()))
            except OSError:
                pass  # gone, or not ours
    return found


def descriptors_of(pid):
    """The files that a process has open."""
    found = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(link))
    return found


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


# Early, while packages are fetched, and late, when mmdebstrap has mounted /proc and more in the new root and runs
# programs in there.
EARLY, LATE = "var/lib/dpkg", "var/lib/dpkg/info/bash.list"


@contextlib.contextmanager
def begun_build(images, moment, *words):
    """A process that makes the image of python, so far that a file of its root is there."""
    if shutil.which("mmdebstrap", path="/usr/bin:/bin") is None:
        pytest.skip("mmdebstrap is not installed")
    command = [AGENT, "--state-dir", images.state, *words]
    build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    begun = wait_for(lambda: any(images.images.glob(".work-*/rootfs/" + moment)) or build.poll() is not None, 120)
    said = build.stderr.read() if build.poll() is not None else ""
    if "id_range_missing" in said:
        pytest.skip("an ordinary user without a range of ids cannot build")
    assert begun and build.poll() is None, said
    assert processes_of(images.images)
    with build:
        yield build
    assert str(images.images) not in pathlib.Path("/proc/self/mounts").read_text()


BUILD, TEMP = ("image", "build", "python"), ("vm", "temp", "--language", "python", "--cmd", "true")
CREATE = ("vm", "create", "--language", "python")


@pytest.mark.parametrize(
    ("words", "signo", "moment"),
    [
        (BUILD, signal.SIGINT, EARLY),
        (BUILD, signal.SIGTERM, LATE),
        (BUILD, signal.SIGHUP, EARLY),
        (TEMP, signal.SIGINT, EARLY),
        (CREATE, signal.SIGINT, EARLY),
    ],
    ids=["SIGINT", "SIGTERM late", "SIGHUP", "vm temp", "vm create"],
)
def test_an_interrupted_build_removes_what_it_began(images, words, signo, moment):
    """Before it ends, and not when the next command looks."""
    with begun_build(images, moment, *words) as build:
        build.send_signal(signo)
        assert build.wait(timeout=60) == 128 + signo
        assert build.stderr.read() == ""
        assert images.leftovers() == []
        assert processes_of(images.images) == []
    assert images.vms() == ""


def test_a_build_goes_on_when_hang_ups_are_ignored(images):
    """As `nohup` has it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with begun_build(images, EARLY, *BUILD) as build:
            build.send_signal(signal.SIGHUP)
            build.send_signal(signal.SIGTERM)
            assert build.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("moment", [EARLY, LATE], ids=["early", "late"])
def test_a_killed_build_leaves_nothing_to_the_next_command(images, moment):
    """Its tools end with it; their lock on the unfinished folder goes with the last of them, which nobody tells us."""
    with begun_build(images, moment, *BUILD) as build:
        build.kill()
        build.wait(timeout=30)
        assert wait_for(lambda: not processes_of(images.images), 10), processes_of(images.images)
        assert wait_for(lambda: images.ok("list") is None and images.leftovers() == [], 10), images.leftovers()


def test_who_waits_for_a_build_of_another_can_be_interrupted(images):
    """The other one is not disturbed."""
    images.images.mkdir(parents=True, mode=0o700)
    lock = images.images / ".lock-agent%2Fpython%3A3.11"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen([AGENT, "--state-dir", images.state, *BUILD], stderr=subprocess.PIPE)
        with waiting:
            assert wait_for(lambda: str(lock) in descriptors_of(waiting.pid), 30)
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(timeout=30) == 130
            assert waiting.stderr.read() == b""
        assert images.leftovers() == [lock.name]


def test_languages_that_have_no_image(images):
    error = images.call("build", "ruby")
    assert error.returncode in (1, 2)
    assert "python" in error.stderr
