# SPDX-License-Identifier: Apache-2.0
"""`agent image build`: that a build which is killed leaves nothing, neither files nor processes nor mounts."""

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


@pytest.mark.parametrize(
    ("signo", "moment"),
    [(signal.SIGKILL, EARLY), (signal.SIGINT, EARLY), (signal.SIGTERM, EARLY), (signal.SIGKILL, LATE)],
    ids=["SIGKILL", "SIGINT", "SIGTERM", "SIGKILL late"],
)
def test_a_killed_build_leaves_nothing(images, signo, moment):
    if shutil.which("mmdebstrap", path="/usr/bin:/bin") is None:
        pytest.skip("mmdebstrap is not installed")
    command = [AGENT, "--state-dir", images.state, "image", "build", "python"]
    build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    begun = wait_for(lambda: any(images.images.glob(".work-*/rootfs/" + moment)) or build.poll() is not None, 120)
    said = build.stderr.read() if build.poll() is not None else ""
    if "id_range_missing" in said:
        pytest.skip("an ordinary user without a range of ids cannot build")
    assert begun and build.poll() is None, said
    assert processes_of(images.images)
    build.send_signal(signo)
    build.wait(timeout=30)
    build.stderr.close()
    assert wait_for(lambda: not processes_of(images.images), 10), processes_of(images.images)
    assert str(images.images) not in pathlib.Path("/proc/self/mounts").read_text()
    assert images.ok("list") is None
    assert images.leftovers() == []


def test_languages_that_have_no_image(images):
    error = images.call("build", "ruby")
    assert error.returncode in (1, 2)
    assert "python" in error.stderr
