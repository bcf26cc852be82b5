# SPDX-License-Identifier: Apache-2.0
"""The whole command line as somebody without privilege: a real second user, with a range of ids and without.

Limits that the host does not let this user enforce are accepted by name, with --best-effort.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import BUILD, MICROVM, STATE, Agent, eventually, namespace_only, processes_of, shim_of
from tests.image.ocilib import Layout, simple_layout
from tests.cli.test_shell import Terminal
from tests.system.test_network import PROBE, Site, site  # noqa: F401 (a fixture)

pytestmark = pytest.mark.as_root  # it takes root to become a second user

PROGRAMS = ("agent", "era-init", "era-shim", "era-unpack")
CREATE = ("--language", "python", "--image", "era/base:1", "--best-effort")


class User(Agent):
    """The program as another user, who can read the programs and owns a home, and nothing else."""

    def __init__(self, uid: int, folder: pathlib.Path, has_range: bool = False) -> None:
        super().__init__(folder / "home" / "state")
        self.has_range = has_range
        self.uid = uid
        self.home = folder / "home"
        self.program = folder / "bin" / "agent"
        self.prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        self.env.update(HOME=str(self.home), PATH="/usr/local/bin:/usr/bin:/bin")

    def make(self, *args: str) -> str:
        """A VM of this user's image, without what this host does not enforce for him."""
        return str(self.run("vm", "create", *CREATE, *args, check=True).json()["id"])


def free_uid() -> int:
    """A uid that nobody has."""
    return next(uid for uid in range(61000, 62000) if not any(user.pw_uid == uid for user in pwd.getpwall()))


def add_user(name: str, home: pathlib.Path) -> int:
    """An account, with what the system gives to accounts: a range of ids."""
    subprocess.run(["useradd", "--no-create-home", "--home-dir", home, name], check=True, capture_output=True)
    uid = pwd.getpwnam(name).pw_uid
    assert f"{name}:" in pathlib.Path("/etc/subuid").read_text()
    return uid


@pytest.fixture(scope="module")
def archive(agent: Agent) -> Iterator[pathlib.Path]:
    """An archive of our own image, which everybody can read and import."""
    with tempfile.TemporaryDirectory(prefix="era-archive-") as folder:
        os.chmod(folder, 0o755)
        layout = Layout()
        tree = pathlib.Path(folder) / "layer.tar"
        rootfs = STATE / "images" / "agent%2Fpython%3A3.11" / "rootfs"
        subprocess.run(["tar", "-C", rootfs, "--exclude=./usr/share", "-cf", tree, "."], check=True)
        layers = [tree.read_bytes()]
        layout.index(layout.image(layers, compress=False))
        path = pathlib.Path(folder) / "base.tar"
        layout.tar(path)
        yield path


@pytest.fixture(scope="module", params=["alone", "with_range"])
def user(request: pytest.FixtureRequest, archive: pathlib.Path) -> Iterator[User]:
    """Somebody who is no account at all, or an account with a range of ids; with an image that he imported."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="era-user-"))
    name = f"era-test-{os.getpid()}" if request.param == "with_range" else ""
    try:
        os.chmod(folder, 0o755)
        (folder / "bin").mkdir()
        (folder / "home").mkdir(mode=0o700)
        for program in PROGRAMS:
            shutil.copy2(BUILD / "src" / "main" / program, folder / "bin")
        uid = add_user(name, folder / "home") if name else free_uid()
        os.chown(folder / "home", uid, uid)
        made = User(uid, folder, bool(name))
        made.run("image", "import", str(archive), "--name", "era/base:1", check=True)
        if MICROVM:  # who has no range of ids cannot fetch it
            shutil.copytree(STATE / "images" / ".kernel", made.state / "images" / ".kernel")
            subprocess.run(["chown", "-R", f"{uid}:{uid}", made.state / "images" / ".kernel"], check=True)
        yield made
        made.run("vm", "clean", "--all", check=True)
        eventually(lambda: processes_of(made.state) == [])
    finally:
        if name:
            subprocess.run(["userdel", name], check=True, capture_output=True)
        shutil.rmtree(folder)


@pytest.fixture
def users_vm(user: User) -> Iterator[str]:
    """One of this user's VMs."""
    vm = user.make()
    yield vm
    user.clean(vm)


def test_an_image_is_imported_listed_and_removed(user: User, tmp_path: pathlib.Path) -> None:
    """Without privilege; nothing of it is left."""
    layout = simple_layout({"hello": "x"}, name="era/second:1").tar(tmp_path / "second.tar")
    shutil.copy(layout, user.home)
    user.run("image", "import", str(user.home / "second.tar"), check=True)
    assert {image["reference"] for image in user.run("image", "list", check=True).lines()} == {"era/base:1", "era/second:1"}
    user.run("image", "remove", "era/second:1", check=True)
    assert [path.name for path in (user.state / "images").iterdir() if path.name != ".kernel"] == ["era%2Fbase%3A1"]


def test_an_image_is_built_by_who_has_a_range_of_ids(user: User) -> None:
    """From packages, which belong to several; it runs, and its owner can remove it. Without a range it is refused by name."""
    before = set(os.listdir(user.state / "images"))
    built = user.run("image", "build", "python", timeout=300)
    if not user.has_range:
        assert built.error()["code"] == "id_range_missing"
        assert set(os.listdir(user.state / "images")) == before
        return
    words = ("--best-effort", "--language", "python", "--cmd", "python3 -c 'import ssl; print(6 * 7)'")
    assert user.run("vm", "temp", *words, check=True).text == "42\n"
    user.run("image", "remove", str(built.json()["reference"]), check=True)
    assert set(os.listdir(user.state / "images")) == before


def test_doctor_says_what_this_user_gets(user: User) -> None:
    """A launcher works; what is missing says so, instead of being found out."""
    done = user.run("doctor", check=True).json()
    checks = {check["name"]: check for check in done["checks"]}
    assert done["launcher"] == "namespace" and checks["namespaces"]["state"] == "ok"
    assert checks["overlayfs"]["state"] in ("ok", "warn")
    assert checks["cgroup memory"]["state"] == "missing" and "--best-effort" in checks["cgroup memory"]["detail"]
    assert checks["loop devices"]["state"] == "warn"


@namespace_only("a machine is a limit itself, and needs no control group")
def test_limits_that_do_not_hold_are_refused_or_listed(user: User) -> None:
    """Never dropped silently."""
    refused = user.run("vm", "create", *[word for word in CREATE if word != "--best-effort"]).error()
    assert refused["code"] == "limit_unenforceable" and "--best-effort" in refused["message"]
    assert user.run("vm", "list", "--all", "--quiet", check=True).text == ""
    created = user.run("vm", "create", *CREATE, check=True).json()
    assert created["unenforced"] == ["memory", "cpu", "pids"]
    assert user.run("vm", "show", "--vm", created["id"], check=True).json()["unenforced"] == created["unenforced"]
    user.clean(created["id"])


def test_run_exec_and_logs(user: User, users_vm: str) -> None:
    """A file goes in, a command runs, output and verdict come back."""
    program = user.home / "program.py"
    program.write_text("import sys, os; print('out', os.getuid()); print('err', file=sys.stderr); sys.exit(3)")
    done = user.run("vm", "run", "--vm", users_vm, "--file", str(program), "--cmd", "python3 in/program.py")
    assert done.code == 3
    result = done.json()
    assert (result["verdict"], pathlib.Path(result["stdout"]).read_text()) == ("exited", "out 0\n")
    assert user.run("vm", "logs", "--vm", users_vm, "--run", result["run"], "--stderr", check=True).text == "err\n"
    assert user.sh(users_vm, "cat", input=b"typed").text == "typed"
    late = user.run("vm", "run", "--vm", users_vm, "--timeout", "0.5", "--cmd", "sleep 1000")
    assert (late.code, late.json()["verdict"]) == (124, "timed_out")


def test_shell(user: User, users_vm: str) -> None:
    """A terminal of the VM's own, also without a group for terminals."""
    terminal = Terminal(user, "vm", "shell", "--vm", users_vm, "--cmd", "/bin/sh")
    terminal.expect("# ")
    terminal.type("echo $((6 * 7)); tty\n")
    terminal.expect("42")
    terminal.expect("/dev/pts/")
    terminal.type("exit 5\n")
    assert terminal.process.wait(timeout=20) == 5
    terminal.close()


def test_temp_list_and_show(user: User) -> None:
    """A VM for one command, gone when it ends."""
    assert user.run("vm", "temp", *CREATE, "--cmd", "echo hello; hostname", check=True).text.startswith("hello\npython-")
    vm = user.make()
    assert [row["id"] for row in user.run("vm", "list", check=True).lines()] == [vm]
    assert user.status(vm) == "ready"
    user.clean(vm)
    assert user.run("vm", "list", "--all", check=True).text == ""


def test_cp_both_ways(user: User, users_vm: str) -> None:
    """A tree goes in and comes back as this user's own."""
    tree = user.home / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    subprocess.run(["chown", "-R", f"{user.uid}:{user.uid}", tree], check=True)
    user.run("vm", "cp", str(tree), f"{users_vm}:/workspace/in/tree", check=True)
    user.sh(users_vm, "cp -r in/tree out/ && chmod 600 out/tree/deep/file")
    user.run("vm", "cp", f"{users_vm}:/workspace/out/tree", str(user.home / "back"), check=True)
    back = user.home / "back" / "deep" / "file"
    assert (back.read_text(), back.stat().st_uid) == ("content", user.uid)
    shutil.rmtree(tree)
    shutil.rmtree(user.home / "back")


def test_stop_start_and_a_killed_shim(user: User, users_vm: str) -> None:
    """What is on / goes with a stop, the VM starts again, and a crash leaves nothing."""
    user.sh(users_vm, "echo x > /file")
    user.run("vm", "stop", "--vm", users_vm, check=True)
    assert user.status(users_vm) == "stopped"
    assert user.sh(users_vm, "ls /file", check=False).code != 0
    os.kill(shim_of(user, users_vm), signal.SIGKILL)
    eventually(lambda: user.status(users_vm) == "stopped")
    assert processes_of(user.state) == []
    assert user.sh(users_vm, "echo again").text == "again\n"


@namespace_only("the guest's kernel mounts a disk, and needs no privilege for it")
def test_a_volume_is_a_folder_that_outlives_its_vm(user: User) -> None:
    """Written in one VM, read in the next, removed when told."""
    vm = user.make("--persist")
    user.sh(vm, "echo kept > persist/note")
    user.run("vm", "clean", "--vm", vm, "--keep-persist", check=True)
    (volume,) = user.run("volume", "list", check=True).lines()
    assert (volume["name"], volume["kind"]) == (vm, "folder")
    second = user.make("--volume", vm)
    assert user.sh(second, "cat persist/note").text == "kept\n"
    user.run("vm", "clean", "--vm", second, "--keep-persist", check=True)
    user.run("volume", "remove", vm, check=True)
    assert list((user.state / "volumes").iterdir()) == []


def test_network(user: User, site: Site) -> None:  # noqa: F811 (the fixture)
    """allow_all reaches the outside, and not this host."""
    script = 'mount -t tmpfs era /dev/net && mknod -m "$1" /dev/net/tun c 10 200; shift; exec nsenter --net="$@"'
    netns = f"/run/netns/{site.here}"
    inside = User(user.uid, user.home.parent)

    def prefix(tun_mode: str) -> list[str]:
        return ["unshare", "-m", "sh", "-ec", script, "sh", tun_mode, netns, "--", *user.prefix]

    inside.prefix = prefix("600")
    refused = inside.run("vm", "create", *CREATE, "--network", "allow_all").error()
    assert refused["code"] == "network_unavailable" and "/dev/net/tun" in refused["message"]
    inside.prefix = prefix("666")
    vm = inside.make("--network", "allow_all")
    try:
        user.sh(vm, "cat > probe.py", input=PROBE.encode())
        assert user.sh(vm, "python3 probe.py http://10.77.0.2/").text == "hello\n"
        assert user.sh(vm, "python3 probe.py http://10.77.0.1:8099/").text == "unreachable\n"
        assert user.sh(vm, "python3 probe.py http://169.254.169.254/").text == "unreachable\n"
    finally:
        user.clean(vm)


@namespace_only("the host does not see a guest's processes")
def test_the_guests_root_is_this_user_and_no_more(user: User, users_vm: str) -> None:
    """What runs inside has the user's uid outside, and no way to the user's files."""
    sleeper = user.start("vm", "exec", "--vm", users_vm, "--", "sleep", "1000.25", stdout=subprocess.DEVNULL)
    found: list[pathlib.Path] = []

    def seen() -> bool:
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cmdline").read_bytes() == b"sleep\0001000.25\0":
                    found.append(entry)
            except OSError:
                continue
        return bool(found)

    eventually(seen)
    status = dict(line.split(":\t", 1) for line in (found[0] / "status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(user.uid)] * 4
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    sleeper.terminate()
    sleeper.wait()
    assert user.sh(users_vm, f"ls {user.home}", check=False).code != 0


def test_nobody_else_can_use_the_vms_of_root(agent: Agent, user: User, vm: str) -> None:
    """Neither the state directory, nor the socket, nor a volume or an image of another."""
    user.env["AGENT_STATE_DIR"] = str(agent.state)
    try:
        for words in (["vm", "list"], ["vm", "exec", "--vm", vm, "--cmd", "id"], ["vm", "clean", "--vm", vm],
                      ["image", "list"], ["vm", "create", *CREATE]):
            assert user.run(*words).error()["code"] == "state_dir_unusable", words
    finally:
        user.env["AGENT_STATE_DIR"] = str(user.state)
    assert user.run("vm", "exec", "--vm", vm, "--cmd", "id").error()["code"] == "vm_not_found"
    socket = agent.state / "vms" / vm / "vm.sock"
    assert agent.state.stat().st_mode & 0o777 == 0o700 and socket.stat().st_mode & 0o777 == 0o600
    # Even where the folders are open, the socket is not; and where that is open, the shim knows its peers by uid.
    script = (
        "import os, socket, sys\n"
        f"os.chdir({str(socket.parent)!r})\n"
        f"os.setgroups([]); os.setresgid(*[{user.uid}] * 3); os.setresuid(*[{user.uid}] * 3)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
        "try: s.connect('vm.sock')\n"
        "except PermissionError: print('refused'); sys.exit()\n"
        "print('closed' if s.recv(100) == b'' else 'answered')"
    )
    assert subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True).stdout == "refused\n"
    socket.parent.chmod(0o755)
    assert subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True).stdout == "refused\n"
    socket.chmod(0o666)
    assert subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True).stdout == "closed\n"
    socket.parent.chmod(0o700)
    assert agent.sh(vm, "echo still mine").text == "still mine\n"


@namespace_only("QEMU goes without them")
def test_forbidden_namespaces_are_explained(user: User) -> None:
    """In a namespace where the kernel's limit is 0: which setting, and the command that changes it."""
    before = user.prefix
    user.prefix = [*before, "unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c",
                   'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    try:
        error = user.run("vm", "create", *CREATE).error()
        doctor = user.run("doctor")
    finally:
        user.prefix = before
    assert error["code"] == "launcher_unavailable"
    assert "sysctl -w user.max_user_namespaces=" in error["message"]
    checks = {check["name"]: check for check in doctor.json()["checks"]}
    assert "sysctl -w user.max_user_namespaces=" in checks["namespaces"]["detail"]
    # A machine can be emulated without namespaces, where its kernel can be had.
    assert (doctor.json()["launcher"], doctor.code) in (("", 1), ("microvm", 0))


def test_root_of_a_user_namespace_is_an_ordinary_user(user: User) -> None:
    """As in a container without root: uid 0 there has none of root's powers, and needs none."""
    before = user.prefix
    user.prefix = [*before, "unshare", "--user", "--map-root-user", "--"]
    try:
        done = user.run("vm", "temp", *CREATE, "--persist", "--cmd", "id -u; touch persist/file && ls persist", check=True)
    finally:
        user.prefix = before
    assert done.text == "0\nfile\n"


@pytest.mark.microvm_only
def test_a_machine_is_jailed_saved_and_forked(user: User) -> None:
    """Without privilege: QEMU has nothing of this user's, and a fork has memory, files and volume of its own."""
    vm = user.make("--persist", "--disk", "16")
    user.sh(vm, "echo root > /file; echo volume > persist/file")
    made = [str(one["id"]) for one in user.run("vm", "fork", "--vm", vm, "--count", "2", check=True).lines()]
    user.run("vm", "snapshot", "--vm", vm, "--name", "users", check=True)
    made.append(str(user.run("vm", "create", "--from", "users", check=True).json()["id"]))
    for one in made:
        assert user.sh(one, "cat /file persist/file; hostname; echo own > /file").text.split() == ["root", "volume", one]
    assert user.sh(vm, "cat /file").text == "root\n"
    shim = shim_of(user, vm)
    qemu, = pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{qemu}/status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {str(user.uid)} and int(status["CapEff"], 16) == 0
    assert {path.name for path in pathlib.Path(f"/proc/{qemu}/root").iterdir()} <= {"etc", "lib", "lib64", "usr"}
    user.run("snapshot", "remove", "users", check=True)
    for one in (vm, *made):
        user.clean(one)
