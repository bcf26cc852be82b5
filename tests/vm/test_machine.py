# SPDX-License-Identifier: Apache-2.0
"""What only a machine with systemd, control groups v2 and sysctls of its own can show."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import signal
import stat
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BUILD, Agent, Result, eventually, groups_of, shim_of

GROUPS = pathlib.Path("/sys/fs/cgroup")
SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "--"]


class OrdinaryUser(Agent):
    """The program as the ordinary user of the machine, as after a login by ssh."""

    def __init__(self) -> None:
        user = pwd.getpwnam("tester")
        super().__init__(pathlib.Path(user.pw_dir) / "state")
        self.env["HOME"] = user.pw_dir
        self.env["XDG_RUNTIME_DIR"] = f"/run/user/{user.pw_uid}"

    def do(self, *argv: str, timeout: float = 120) -> Result:
        """Runs any command as this user."""
        done = subprocess.run(["runuser", "-u", "tester", "--", *argv], env=self.env, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)

    def run(self, *args: str, **_: object) -> Result:
        """Runs a command of the program, outside of any delegated scope."""
        return self.do(str(self.program), *args)

    def scoped(self, *args: str) -> Result:
        """Runs a command of the program in a scope of its own."""
        return self.do(*SCOPE, str(self.program), *args)


@pytest.fixture
def tester() -> Iterator[OrdinaryUser]:
    """The ordinary user, whose VMs are gone afterwards."""
    user = OrdinaryUser()
    yield user
    user.run("vm", "clean", "--all")


@pytest.fixture(params=["root", "tester"])
def either(request: pytest.FixtureRequest) -> tuple[Agent, list[str]]:
    """The program as root, or as the ordinary user, and what root puts before it for that."""
    if request.param == "root":
        return request.getfixturevalue("agent"), []
    return request.getfixturevalue("tester"), ["runuser", "-u", "tester", "--", *SCOPE]


@contextlib.contextmanager
def sysctl(name: str, value: str) -> Iterator[None]:
    """A setting of the kernel for a while."""
    path = pathlib.Path("/proc/sys") / name.replace(".", "/")
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


def test_without_delegation_limits_are_refused_and_told_how_to_get(tester: OrdinaryUser) -> None:
    """From a plain login nothing is enforced silently, and the way out is in the message."""
    error = tester.run("vm", "create", "--language", "python").error()
    assert error["code"] == "limit_unenforceable"
    assert "systemd-run --user --scope -p Delegate=yes" in error["message"]
    checks = {check["name"]: check for check in tester.run("doctor", "--output", "json").json()["checks"]}
    assert checks["cgroup memory"]["state"] == "missing"
    assert "systemd-run --user --scope -p Delegate=yes" in checks["cgroup memory"]["detail"]
    vm = tester.run("vm", "create", "--language", "python", "--best-effort").json()
    assert vm["unenforced"] == ["memory", "cpu", "pids"]


def test_a_scope_without_all_controllers_is_left_alone(tester: OrdinaryUser) -> None:
    """As of a terminal on a desktop: ours, but without the cpu controller. Refused before a process is moved."""
    plain = ["systemd-run", "--user", "--scope", "--quiet", "--"]
    done = tester.do(*plain, "sh", "-c", f"{tester.program} vm create --language python; cat /proc/self/cgroup")
    assert b"limit_unenforceable" in done.stderr and b"-p Delegate=yes" in done.stderr
    assert done.text.strip().endswith(".scope")
    vm = tester.do(*plain, str(tester.program), "vm", "create", "--language", "python", "--best-effort").json()
    assert vm["unenforced"] == ["cpu"]
    (group,) = groups_of(str(vm["id"]))
    assert (group / "memory.max").read_text() == f"{256 << 20}\n"


def test_a_vm_outlives_the_scope_that_made_it(tester: OrdinaryUser) -> None:
    """The command has ended, its scope lasts with the VM, limits hold, and any shell can use and end it."""
    vm = str(tester.scoped("vm", "create", "--language", "python", "--mem", "96").json()["id"])
    (group,) = groups_of(vm)
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    assert (group / "memory.swap.max").read_text() == "0\n"
    assert (group / "cpu.max").read_text() == "100000 100000\n"
    scope = group.parent.parent
    assert scope.name.endswith(".scope") and (scope / "cgroup.procs").read_text() == ""
    hog = tester.run("vm", "run", "--vm", vm, "--cmd", "python3 -c 'x = bytearray(1 << 30)'").json()
    assert hog["verdict"] == "oom_killed"
    assert tester.run("vm", "stop", "--vm", vm).code == 0
    eventually(lambda: not scope.exists())
    assert tester.run("vm", "run", "--vm", vm, "--cmd", "true").error()["code"] == "limit_unenforceable"
    assert tester.scoped("vm", "run", "--vm", vm, "--cmd", "true").json()["verdict"] == "exited"


def test_many_commands_share_one_scope(tester: OrdinaryUser) -> None:
    """The first moves what is in it; the next find their way from there, and the shell is none the worse."""
    script = (
        f"cat /proc/self/cgroup; for i in 1 2; do {tester.program} vm create --language python || exit 1; done;"
        " sh -c 'cat /proc/self/cgroup'"
    )
    lines = tester.do(*SCOPE, "sh", "-c", script).text.splitlines()
    vms = [vm for vm in tester.run("vm", "list", "--quiet").text.split() if vm]
    assert len(vms) == 2
    assert {group.parent for vm in vms for group in groups_of(vm)} == {GROUPS / (lines[0].split("::/")[1] + "/agent")}
    assert lines[-1] == f"{lines[0]}/agent-callers"


def test_a_killed_shims_groups_are_removed_from_anywhere(tester: OrdinaryUser) -> None:
    """Its scope still holds the shell that started it, and whoever looks next is elsewhere."""
    script = f"{tester.program} vm create --language python && exec sleep 1000"
    shell = subprocess.Popen(["runuser", "-u", "tester", "--", *SCOPE, "sh", "-c", script], env=tester.env,
                             stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert shell.stdout is not None and shell.stdout.readline()
        vm = tester.run("vm", "list", "--quiet").text.strip()
        (group,) = groups_of(vm)
        os.kill(shim_of(tester, vm), signal.SIGKILL)
        assert tester.run("vm", "list", "--all").code == 0
        assert not group.exists() and group.parent.exists()
    finally:
        shell.terminate()
        shell.wait()


def test_root_of_a_container_gets_limits_too(agent: Agent) -> None:
    """A control group namespace whose root holds processes: they make room, and the VM is bounded."""
    script = (
        "umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup &&"
        f" {agent.program} vm temp --language python --mem 96 --cmd 'python3 -c \"x = bytearray(1 << 30)\"';"
        " echo $?; cat /sys/fs/cgroup/cgroup.subtree_control"
    )
    done = subprocess.run(["systemd-run", "--scope", "--quiet", "-p", "Delegate=yes", "--", "unshare", "--cgroup",
                           "--mount", "sh", "-c", script], env=agent.env, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["137", "cpu memory pids"], done


def test_auto_does_without_qemu(fresh_state: Agent) -> None:
    """It was removed, or the images come from elsewhere: with KVM and a guest's kernel, but nobody to boot it."""
    if not pathlib.Path("/dev/kvm").exists():
        os.mknod("/dev/kvm", 0o600 | stat.S_IFCHR, os.makedev(10, 232))
    kernel = fresh_state.state / "images" / ".kernel"
    kernel.mkdir(exist_ok=True)
    (kernel / "version").touch()
    vm = fresh_state.create()
    assert fresh_state.run("vm", "show", "--vm", vm, check=True).json()["launcher"] == "namespace"
    error = fresh_state.run("vm", "create", "--language", "python", "--launcher", "microvm").error()
    assert error["code"] == "launcher_unavailable" and "qemu-system-x86" in error["message"]


def test_a_guest_is_born_in_its_group(either: tuple[Agent, list[str]], tmp_path: pathlib.Path) -> None:
    """By clone3, which spares it the wait of one that is moved; nobody is moved to where processes of VMs are."""
    user, before = either
    trace = tmp_path / "trace"
    done = subprocess.run(["strace", "-f", "-y", "-s", "100", "-e", "trace=clone3,openat", "-o", trace, *before, user.program,
                           "vm", "temp", "--language", "python", "--cmd", "true"], env=user.env, capture_output=True, timeout=300)
    assert done.returncode == 0, done
    lines = trace.read_text().splitlines()
    births = [line for line in lines if "CLONE_INTO_CGROUP" in line]
    assert len(births) == 1 and "CLONE_NEWUSER" in births[0] and "= -1" not in births[0], births
    assert not [line for line in lines if "/agent/python-" in line and "cgroup.procs" in line and "O_WRONLY" in line]


def test_a_guest_is_moved_where_clone3_is_filtered(either: tuple[Agent, list[str]]) -> None:
    """As by what older container engines put around us: in its group all the same, and bounded."""
    user, before = either
    create = ("vm", "create", "--language", "python", "--mem", "96")
    without = [BUILD / "tests" / "old_kernel" / "without_calls", "clone3", "/usr/bin/env"]
    done = subprocess.run([*without, *before, user.program, *create], env=user.env, capture_output=True, timeout=120)
    assert done.returncode == 0, done
    vm = str(json.loads(done.stdout)["id"])
    try:
        (group,) = groups_of(vm)
        assert (group / "memory.max").read_text() == f"{96 << 20}\n"
        assert len((group / "cgroup.procs").read_text().split()) == 1
        hog = user.run("vm", "run", "--vm", vm, "--cmd", "python3 -c 'x = bytearray(1 << 30)'").json()
        assert hog["verdict"] == "oom_killed"
    finally:
        assert user.run("vm", "clean", "--vm", vm).code == 0


@pytest.mark.parametrize("name", ["kernel.unprivileged_userns_clone", "user.max_user_namespaces"])
def test_forbidden_namespaces_are_explained_to_a_user(tester: OrdinaryUser, name: str) -> None:
    """Which setting it is and how it is changed, by doctor and by create alike."""
    with sysctl(name, "0"):
        error = tester.scoped("vm", "create", "--language", "python").error()
        doctor = tester.run("doctor", "--output", "json")
    assert error["code"] == "launcher_unavailable" and f"sysctl -w {name}=" in error["message"]
    checks = {check["name"]: check for check in doctor.json()["checks"]}
    assert doctor.code == 1 and checks["namespaces"]["state"] == "missing"
    assert f"sysctl -w {name}=" in checks["namespaces"]["detail"]
    assert tester.run("vm", "list", "--all", "--quiet").text == ""


def test_forbidden_namespaces_are_explained_to_root(agent: Agent) -> None:
    """The limit that holds for everybody."""
    with sysctl("user.max_user_namespaces", "0"):
        error = agent.run("vm", "create", "--language", "python").error()
        doctor = agent.run("doctor", "--output", "json")
    assert error["code"] == "launcher_unavailable" and "sysctl -w user.max_user_namespaces=" in error["message"]
    checks = {check["name"]: check for check in doctor.json()["checks"]}
    assert doctor.code == 1 and "sysctl -w user.max_user_namespaces=" in checks["namespaces"]["detail"]


def test_an_old_kernel_says_what_an_ordinary_user_lacks(tester: OrdinaryUser) -> None:
    """Before Linux 6.6 tmpfs has no user attributes: a folder of the image stays, refused and not half removed."""
    checks = {check["name"]: check for check in tester.run("doctor", "--output", "json").json()["checks"]}
    assert checks["overlayfs"]["state"] == "warn" and "6.6" in checks["overlayfs"]["detail"]
    vm = str(tester.run("vm", "create", "--language", "python", "--best-effort").json()["id"])
    inside = tester.run("vm", "exec", "--vm", vm, "--cmd", "rm -r /var/lib/dpkg; mkdir /new && rm -r /new && rm /etc/passwd")
    assert inside.code == 0 and b"Input/output error" in inside.stderr
    assert tester.run("vm", "exec", "--vm", vm, "--cmd", "pip list && python3 -m venv --without-pip /tmp/v").code == 0
