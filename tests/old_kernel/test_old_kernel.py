# SPDX-License-Identifier: Apache-2.0
"""Kernels that lack a system call: all works by another way that is as strong, or the call is named and nothing is made.

The filter of without_calls stands around the agent, its shim and the guest.
"""

from __future__ import annotations

import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import BUILD, STATE, Agent, eventually, groups_of, processes_of, shim_of
from tests.image.ocilib import simple_layout

WITHOUT = BUILD / "tests" / "old_kernel" / "without_calls"

# Later calls that only make things easier: there is another way.
DISPENSABLE = ["openat2", "clone3", "close_range", "pidfd_open", "faccessat2", "epoll_pwait2", "copy_file_range", "statx"]
# What a guest cannot be made without, and the version of Linux that brought it.
NEEDED = {
    "pidfd_send_signal": "5.1",
    "open_tree": "5.2",
    "move_mount": "5.2",
    "fsopen": "5.2",
    "fsconfig": "5.2",
    "fsmount": "5.2",
    "mount_setattr": "5.12",
}


class OldKernel(Agent):
    """The program where the kernel lacks calls."""

    def lacking(self, *calls: str) -> OldKernel:
        """The same, without these."""
        other = OldKernel(self.state)
        other.env = self.env
        other.program = self.program
        other.prefix = [*self.prefix, str(WITHOUT), ",".join(calls)]
        return other


@pytest.fixture
def root(agent: Agent) -> OldKernel:
    """The program on the session's state directory, as whoever runs the tests."""
    return OldKernel(agent.state)


@pytest.fixture(scope="module")
def nobody(agent: Agent) -> Iterator[OldKernel]:
    """The program as a user without a range of ids, on a copy of the Python image."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="era-old-kernel-"))
    uid = 61999
    try:
        os.chmod(folder, 0o755)
        for name in ("agent", "era-init", "era-shim", "era-unpack"):
            shutil.copy2(BUILD / "src" / "main" / name, folder)
        shutil.copy2(WITHOUT, folder)
        images = folder / "home" / "state" / "images"
        images.mkdir(parents=True)
        subprocess.run(["cp", "-a", STATE / "images" / "agent%2Fpython%3A3.11", images], check=True)
        subprocess.run(["chown", "-R", f"{uid}:{uid}", folder / "home"], check=True)
        (folder / "home" / "state").chmod(0o700)
        user = OldKernel(folder / "home" / "state")
        user.program = folder / "agent"
        user.env["HOME"] = str(folder / "home")
        user.prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        yield user
        user.run("vm", "clean", "--all", check=True)
        eventually(lambda: processes_of(user.state) == [])
    finally:
        shutil.rmtree(folder)


def smoke(agent: Agent, tmp_path: pathlib.Path, *create: str) -> None:
    """Once through the life of a VM: each step must do what it does anywhere."""
    assert agent.run("doctor", check=True).json()["launcher"] == "namespace"
    (tmp_path / "file").write_text("content")
    tmp_path.chmod(0o755)
    vm = agent.create("--persist", "--disk", "16", *create)
    try:
        assert agent.sh(vm, "cat > persist/kept; cat persist/kept", input=b"kept").text == "kept"
        agent.run("vm", "cp", str(tmp_path / "file"), f"{vm}:/workspace/in/file", check=True)
        done = agent.run("vm", "run", "--vm", vm, "--cmd", "cat in/file; cp in/file out/; ln -s /etc out/link; exit 4")
        assert (done.code, done.json()["verdict"]) == (4, "exited")
        agent.run("vm", "cp", f"{vm}:/workspace/out/file", str(agent.state / "back"), check=True)
        assert (agent.state / "back").read_text() == "content"
        (agent.state / "back").unlink()
        late = agent.run("vm", "run", "--vm", vm, "--timeout", "0.3", "--cmd", "(setsid sleep 1000 &); sleep 1000")
        assert late.json()["verdict"] == "timed_out"
        agent.run("vm", "stop", "--vm", vm, check=True)
        assert agent.sh(vm, "cat persist/kept; ls out").text == "kept"
    finally:
        agent.clean(vm)
    assert groups_of(vm) == []


@pytest.mark.parametrize("call", DISPENSABLE)
def test_without_a_dispensable_call_all_works(root: OldKernel, tmp_path: pathlib.Path, call: str) -> None:
    """The same life of a VM, on another way."""
    smoke(root.lacking(call), tmp_path)


@pytest.mark.as_root
def test_an_ordinary_user_needs_none_of_them_either(nobody: OldKernel, tmp_path: pathlib.Path) -> None:
    """All of them at once."""
    with tempfile.TemporaryDirectory(prefix="era-old-kernel-") as folder:
        smoke(nobody.lacking(*DISPENSABLE), pathlib.Path(folder), "--best-effort")


def refuse(agent: OldKernel, call: str, since: str, *create: str) -> None:
    """create and doctor name the call and the version of Linux that has it, and nothing is made."""
    lacking = agent.lacking(call)
    error = lacking.run("vm", "create", "--language", "python", "--launcher", "namespace", *create).error()
    assert error["code"] == "launcher_unavailable"
    assert call in error["message"] and since in error["message"]
    doctor = lacking.run("doctor")
    checks = {check["name"]: check for check in doctor.json()["checks"]}
    # A machine can be emulated without any of them.
    assert (doctor.json()["launcher"], doctor.code) in ((None, 1), ("microvm", 0))
    assert checks["system calls"]["state"] == "missing" and call in checks["system calls"]["detail"]
    assert agent.run("vm", "list", "--all", "--quiet", check=True).text == ""


@pytest.mark.parametrize("call", NEEDED)
def test_without_a_needed_call_it_is_named(root: OldKernel, call: str) -> None:
    """No guest is made on a way that would be weaker."""
    refuse(root, call, NEEDED[call])


@pytest.mark.as_root
def test_an_ordinary_user_is_told_the_same(nobody: OldKernel) -> None:
    """Before anything is tried that only root could."""
    refuse(nobody, "mount_setattr", NEEDED["mount_setattr"], "--best-effort")


@pytest.mark.as_root
def test_doctor_says_what_root_needs_of_the_kernel(root: OldKernel) -> None:
    """A version before 5.19 is a warning, because distributions bring parts of newer ones; it decides nothing."""
    root.prefix = ["setarch", "--uname-2.6"]
    checks = {check["name"]: check for check in root.run("doctor", check=True).json()["checks"]}
    assert checks["overlayfs"]["state"] == "warn" and "5.19" in checks["overlayfs"]["detail"]


def test_no_descriptor_leaks_without_close_range(root: OldKernel) -> None:
    """Also none that is above the limit, which was lowered after it was opened."""
    def open_many() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for number in (100, 1023, 8000):
            os.dup2(0, number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    lacking = root.lacking("close_range")
    done = lacking.start("vm", "create", "--language", "python", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         close_fds=False, preexec_fn=open_many)
    assert done.wait(timeout=60) == 0
    vm = root.run("vm", "list", "--quiet", check=True).text.strip()
    try:
        assert root.sh(vm, "ls /proc/self/fd", check=True).text.split() == ["0", "1", "2", "3"]
        held = [int(entry.name) for entry in pathlib.Path(f"/proc/{shim_of(root, vm)}/fd").iterdir()]
        assert max(held) < 100
    finally:
        root.clean(vm)


@pytest.mark.parametrize("name", ["index.json", "blobs", "blobs/sha256"])
def test_links_out_of_a_layout_are_refused_without_openat2(root: OldKernel, tmp_path: pathlib.Path, name: str) -> None:
    """The walk that replaces it follows no link either, at the end of a path or on the way."""
    inside = simple_layout({"hello": "x"}, name="era/linked:1").write(tmp_path / "layout")
    lacking = root.lacking("openat2")
    lacking.run("image", "import", str(inside), check=True)
    lacking.run("image", "remove", "era/linked:1", check=True)
    shutil.move(inside / name, tmp_path / "elsewhere")
    (inside / name).symlink_to(tmp_path / "elsewhere")
    assert lacking.run("image", "import", str(inside)).error()["code"] == "image_corrupt"
