# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the whole-program tests.

AGENT_BUILD_DIR       where the programs were built (default: build)
AGENT_TEST_STATE_DIR  the state directory of the session; it keeps the images
AGENT_TEST_LAUNCHER   the launcher of every VM that does not name one (default: auto)
                      between sessions (default: .cache/test-state)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("AGENT_BUILD_DIR", ROOT / "build"))
# Under emulation a busy host may make anything late: what must happen in time may end the VM instead.
EMULATED = bool(os.environ.get("AGENT_TEST_MACHINE"))
MICROVM = os.environ.get("AGENT_TEST_LAUNCHER") == "microvm"
LEAST_MEM = "96" if MICROVM else "64"  # for a VM that does next to nothing: a kernel of its own needs more
SLOW = 10 if MICROVM else 1  # times that a command may take longer than in the host's kernel
STATE = pathlib.Path(os.environ.get("AGENT_TEST_STATE_DIR", ROOT / ".cache" / "test-state"))


def pytest_configure(config: pytest.Config) -> None:
    """The markers of this suite; and signals as a shell gives them, however the suite itself was started."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.addinivalue_line("markers", "as_root: promises what holds for root alone; another user does not run it")
    config.addinivalue_line("markers", "slow_emulated: takes long under emulation, and script/test --vm leaves it out")
    config.addinivalue_line("markers", "microvm_only: takes minutes by emulation, and script/test microvm alone runs it")
    config.addinivalue_line("markers", "namespace_only(reason): left out when AGENT_TEST_LAUNCHER is microvm")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes out what is promised to root alone, and of another launcher than the one that is tried."""
    unwanted = set()
    if os.geteuid() != 0:
        unwanted.add("as_root")
    unwanted.add("namespace_only" if MICROVM else "microvm_only")
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in unwanted)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def namespace_only(reason: str) -> pytest.MarkDecorator:
    """For a test of what guests in namespaces do and others need not: docs/launchers.md says the same."""
    return pytest.mark.namespace_only(reason=reason)


@dataclasses.dataclass
class Result:
    """How a command of the program ended."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its stdout as text."""
        return self.stdout.decode()

    def json(self) -> dict[str, Any]:
        """The one object of its stdout."""
        lines = self.text.splitlines()
        assert len(lines) == 1, self
        return json.loads(lines[0])

    def lines(self) -> list[dict[str, Any]]:
        """The objects of its stdout, one a line."""
        return [json.loads(line) for line in self.text.splitlines()]

    def error(self) -> dict[str, Any]:
        """The one error of its stderr, which goes with an empty stdout."""
        assert self.code != 0 and self.stdout == b"", self
        lines = self.stderr.decode().splitlines()
        assert len(lines) == 1, self
        error = json.loads(lines[0])
        assert error["level"] == "error" and error["code"] and error["message"]
        return error


class Agent:
    """The program, on one state directory."""

    def __init__(self, state: pathlib.Path) -> None:
        self.state = state
        self.program = BUILD / "src" / "main" / "agent"
        self.prefix: list[str] = []  # words that go before the program, to run it as somebody else
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/root"),
            "AGENT_STATE_DIR": str(state),
            "AGENT_LAUNCHER": os.environ.get("AGENT_TEST_LAUNCHER", "auto"),
            **{k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_", "npm_config_"))},
        }

    def start(self, *args: str, **kwargs: Any) -> subprocess.Popen[bytes]:
        """Starts a command and does not wait for it."""
        return subprocess.Popen([*self.prefix, self.program, *args], **{"env": self.env, **kwargs})

    def run(
        self,
        *args: str,
        input: bytes | None = None,
        check: bool = False,
        timeout: float = 120,
        env: dict[str, str] | None = None,
    ) -> Result:
        """Runs a command to its end."""
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            [*self.prefix, self.program, *args], env={**self.env, **(env or {})}, capture_output=True, timeout=timeout, **stdin
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert not check or result.code == 0, result
        return result

    def create(self, *args: str, language: str = "python") -> str:
        """Creates a VM and returns its id."""
        return str(self.run("vm", "create", "--language", language, *args, check=True).json()["id"])

    def clean(self, vm: str, *args: str) -> None:
        """Removes a VM that may be gone already."""
        result = self.run("vm", "clean", "--vm", vm, *args)
        assert result.code == 0 or result.error()["code"] == "vm_not_found", result

    def sh(self, vm: str, command: str, *args: str, check: bool = True, **kwargs: Any) -> Result:
        """Runs a command line in a VM, live; a guest's own kernel may be a slow one, and the time is not what is tried."""
        if MICROVM and "--timeout" not in args:
            args = (*args, "--timeout", "110")
        return self.run("vm", "exec", "--vm", vm, *args, "--cmd", command, check=check, **kwargs)

    def status(self, vm: str) -> str:
        """The VM's status."""
        return str(self.run("vm", "show", "--vm", vm, check=True).json()["status"])


def copy_programs(folder: pathlib.Path) -> pathlib.Path:
    """A copy of the programs for another user, who may not look into this checkout; where `agent` is."""
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    for name in ("agent", "era-shim", "era-init", "era-unpack"):
        shutil.copy(BUILD / "src" / "main" / name, folder)
    return folder / "agent"


def link_images(state: pathlib.Path) -> None:
    """The session's images as hard links; not the kernel, with which `auto` would first try KVM."""
    (state / "images").mkdir(mode=0o700)
    images = [path for path in (STATE / "images").iterdir() if not path.name.startswith(".")]
    subprocess.run(["cp", "-al", *images, state / "images"], check=True)


def eventually(condition: Callable[[], bool], seconds: float = 120 if EMULATED else 20) -> None:
    """Waits until something holds that nobody tells us about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def processes_of(state: pathlib.Path) -> list[int]:
    """The living processes whose working directory is in a VM of this state directory: its shims."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            cwd = os.readlink(entry / "cwd")
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            continue
        if alive and cwd.startswith(f"{state}/vms/"):
            found.append(int(entry.name))
    return found


def shim_of(agent: Agent, vm: str) -> int:
    """The process id of a VM's shim."""
    for pid in processes_of(agent.state):
        if os.readlink(f"/proc/{pid}/cwd").split(" ")[0] == f"{agent.state}/vms/{vm}":
            return pid
    raise AssertionError(f"{vm} has no shim")


def vm_groups() -> Iterator[pathlib.Path]:
    """The control groups of VMs, wherever a part of the tree was delegated; others come and go meanwhile."""
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(folder) == "agent":
            yield from (pathlib.Path(folder, name) for name in names)
            names.clear()


def all_groups() -> set[pathlib.Path]:
    """Those of all VMs of this user, in whatever state directory."""
    found = set()
    for path in vm_groups():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == os.geteuid():
                found.add(path)
    return found


def groups_without_owner() -> set[pathlib.Path]:
    """Those of VMs that have no shim, in whatever state directory."""
    owned = set()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            folder = pathlib.Path(os.readlink(entry / "cwd"))
        except OSError:
            continue
        if folder.parent.name == "vms":
            owned.add(folder.name)
    return {path for path in all_groups() if path.name not in owned}


def loop_devices_of(state: pathlib.Path) -> list[str]:
    """The loop devices on files of this state directory."""
    lines = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if f"({state}/" in line]


def groups_of(vm: str) -> list[pathlib.Path]:
    """The control groups of a VM."""
    return [path for path in vm_groups() if path.name == vm]


@pytest.fixture(scope="session")
def agent() -> Iterator[Agent]:
    """The program with both images built; nothing of it may be left when the session ends."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = Agent(STATE)
    for language in ("python", "node"):
        program.run("image", "build", language, check=True, timeout=900)
    program.run("vm", "clean", "--all", check=True)
    groups_before = groups_without_owner()
    yield program
    left = program.run("vm", "list", "--all", "--quiet", check=True).text.split()
    assert left == [], f"tests left VMs: {left}"
    eventually(lambda: processes_of(STATE) == [])
    assert list((STATE / "vms").iterdir()) == []
    assert list((STATE / "volumes").iterdir()) == []
    assert loop_devices_of(STATE) == []
    # A guest's init and its helpers are in its groups. Other sessions' VMs come and go meanwhile.
    eventually(lambda: groups_without_owner() <= groups_before)


@pytest.fixture
def vm(agent: Agent) -> Iterator[str]:
    """A Python VM."""
    created = agent.create()
    yield created
    agent.clean(created)


@pytest.fixture
def node_vm(agent: Agent) -> Iterator[str]:
    """A Node.js VM."""
    created = agent.create(language="node")
    yield created
    agent.clean(created)


@pytest.fixture
def fresh_state(agent: Agent, tmp_path: pathlib.Path) -> Iterator[Agent]:
    """The program on a state directory of its own, whose images are hard links."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    link_images(state)
    program = Agent(state)
    yield program
    program.run("vm", "clean", "--all")
    eventually(lambda: processes_of(state) == [])
