# SPDX-License-Identifier: Apache-2.0
"""Images that hold something else where the launcher mounts, makes or writes: the CVEs of container runtimes.

Each image has one program, and a thing of one kind at every place that is not left alone.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import tarfile
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, eventually, processes_of
from tests.image.ocilib import Layout, config
from tests.system.test_network import Site

PLACES = ["dev", "proc", "sys", "workspace", "etc", "tmp", "mnt", "run"]
PLACES_BELOW = [
    *("dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom", "dev/tty", "dev/console", "dev/ptmx", "dev/fd"),
    *("dev/pts", "dev/shm", "dev/mqueue", "proc/self", "proc/sys", "proc/sysrq-trigger", "proc/kcore", "sys/fs"),
    *("workspace/in", "workspace/out", "workspace/persist", "etc/resolv.conf", "etc/hosts", "etc/passwd"),
]

DEVICES = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9", "tty": "5 0"}


class Host:
    """A state directory, and a folder of the host that images point to."""

    def __init__(self, folder: pathlib.Path, look: pathlib.Path) -> None:
        self.look = look.read_bytes()
        self.folder = folder
        self.agent = Agent(folder / "state")
        self.agent.state.mkdir(mode=0o700)
        self.victim = folder / "victim"
        self.victim.mkdir()
        for name in ("null", "in", "resolv.conf", "sysrq-trigger", "looked"):
            (self.victim / name).write_text("host")
        os.chmod(self.victim, 0o777)
        self.count = 0

    def image(self, fill: Callable[[tarfile.TarFile], None]) -> str:
        """Imports an image that holds the program `look`, and what is put into it."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            add_file(tar, "look", self.look, 0o755)
            fill(tar)
        layout = Layout()
        layout.index(layout.image([buffer.getvalue()]))
        self.count += 1
        reference = f"hostile/image:{self.count}"
        path = layout.tar(self.folder / "image.tar")
        self.agent.run("image", "import", str(path), "--name", reference, check=True)
        return reference

    def create(self, reference: str, *args: str) -> str:
        """A VM of an image."""
        return self.agent.create("--image", reference, *args)

    def see(self, vm: str, *paths: str) -> dict[str, str]:
        """What is at some paths, seen from inside."""
        words = ("vm", "exec", "--vm", vm, "--workdir", "/", "--", "/look", *paths)
        lines = self.agent.run(*words, check=True).text.splitlines()
        return dict(line.split("\t") for line in lines)

    def untouched(self) -> bool:
        """Whether the host's folder is as it was."""
        return {path.name: path.read_text() for path in self.victim.iterdir()} == dict.fromkeys(
            ("null", "in", "resolv.conf", "sysrq-trigger", "looked"), "host"
        )


def add_file(tar: tarfile.TarFile, name: str, content: bytes = b"image", mode: int = 0o666, **fields: object) -> None:
    """Adds a file to a layer."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def add_link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    """Adds a symbolic link, or a hard link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


@pytest.fixture(scope="module")
def host(agent: Agent, programs: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host whose folder is as it was when all images have been tried."""
    made = Host(tmp_path_factory.mktemp("images"), programs / "look")
    try:
        yield made
        assert made.untouched()
    finally:
        made.agent.run("vm", "clean", "--all")
        eventually(lambda: processes_of(made.agent.state) == [])


def boots_as_any_other(host: Host, reference: str, persist: bool = False) -> None:
    """A VM of the image has its own /dev, /proc and /workspace, and nothing that was done reached the host."""
    vm = host.create(reference, *(("--persist", "--disk", "16") if persist else ()))
    expected = {
        **{f"/dev/{name}": f"device {number}" for name, number in DEVICES.items()},
        **{"/dev/shm": "folder written", "/dev/pts": "folder kept", "/dev/ptmx": "link pts/ptmx"},
        **{"/dev/console": "nothing", "/dev/mqueue": "nothing"},
        **{f"/workspace/{name}": "folder written" for name in ("in", "out", *(["persist"] if persist else []))},
        **{"/proc/sys/kernel/core_pattern": "file kept", "/proc/sys/kernel/hostname": "file kept", "/proc/1": "folder kept"},
    }
    covers = [f"/proc/{name}" for name in ("sysrq-trigger", "kcore", "kmsg", "keys", "timer_list")]
    through = [f"/{place}/{name}" for place in PLACES for name in ("looked", "null", "in", "resolv.conf")]
    try:
        seen = host.see(vm, *expected, *covers, *through)
        assert {path: seen[path] for path in expected} == expected
        assert {seen[path] for path in covers} <= {"device 1 3", "nothing"}, seen
        host.agent.run("vm", "cp", __file__, f"{vm}:/workspace/in", check=True)
    finally:
        host.agent.clean(vm)
    assert host.untouched()


LINKS = {
    "an absolute link to a folder of the host": lambda host: str(host.victim),
    "a link that climbs to a folder of the host": lambda host: "../" * 40 + str(host.victim)[1:],
    "a link to the root": lambda host: "/",
    "a link to a descriptor (CVE-2024-21626)": lambda host: "/proc/self/fd/7",
    "a link to the root of init": lambda host: "/proc/1/root",
    "a link to the folder of init": lambda host: "/proc/self/cwd",
    "a link to /proc/sys (CVE-2025-52881)": lambda host: "/proc/sys/kernel/core_pattern",
    "a link to itself": lambda host: "dev",
}


@pytest.mark.parametrize("kind", LINKS)
def test_an_image_with_in_place_of_its_folders(host: Host, kind: str) -> None:
    """/dev, /proc, /sys, /workspace, /etc, /tmp (CVE-2019-16884, CVE-2021-30465, CVE-2023-27561)."""
    reference = host.image(lambda tar: [add_link(tar, name, LINKS[kind](host)) for name in PLACES])
    boots_as_any_other(host, reference, persist="absolute" in kind)


@pytest.mark.parametrize("kind", LINKS)
def test_an_image_with_in_place_of_what_is_in_its_folders(host: Host, kind: str) -> None:
    """/dev/null (CVE-2025-31133), /dev/console (CVE-2025-52565), /dev/pts, /workspace/in, /etc/resolv.conf and others."""

    def target(name: str) -> str:
        path = LINKS[kind](host)
        inside = host.victim / name.split("/")[-1]
        return path + "/" + inside.name if path.endswith("victim") and inside.exists() else path

    reference = host.image(lambda tar: [add_link(tar, name, target(name)) for name in PLACES_BELOW])
    boots_as_any_other(host, reference, persist="absolute" in kind)


def test_an_image_with_files_in_place_of_folders(host: Host) -> None:
    """Nothing can be mounted on a file that is to be a folder."""
    boots_as_any_other(host, host.image(lambda tar: [add_file(tar, name) for name in PLACES]))


def test_an_image_with_files_in_place_of_devices(host: Host) -> None:
    """A cover that is bound from the image's own /dev/null would show what it covers (CVE-2025-31133)."""
    boots_as_any_other(host, host.image(lambda tar: [add_file(tar, name) for name in PLACES_BELOW]), persist=True)


def test_an_image_with_hard_links_in_place_of_folders(host: Host) -> None:
    """All of them are one file, which is the program itself."""
    boots_as_any_other(host, host.image(lambda tar: [add_link(tar, name, "look", tarfile.LNKTYPE) for name in PLACES]))


def test_an_image_with_fifos_and_devices(host: Host) -> None:
    """Whoever opened one would wait for ever, or hold a disk: they are left out."""

    def fill(tar: tarfile.TarFile) -> None:
        for i, name in enumerate(PLACES_BELOW):
            info = tarfile.TarInfo(name)
            info.type = (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)[i % 3]
            info.devmajor, info.devminor = (7, 0) if i % 3 == 2 else (1, 1)
            tar.addfile(info)

    boots_as_any_other(host, host.image(fill))


def test_an_image_whose_folders_nobody_may_enter(host: Host) -> None:
    """Mode 0, and of a user that is nobody in the VM."""

    def fill(tar: tarfile.TarFile) -> None:
        for name in PLACES:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0, 65534, 65534
            tar.addfile(info)

    boots_as_any_other(host, host.image(fill))


def test_an_image_without_any_folder(host: Host) -> None:
    """All are made."""
    boots_as_any_other(host, host.image(lambda tar: None))


def test_an_image_with_marks_of_the_overlay(host: Host) -> None:
    """trusted.overlay.redirect and its like could make the host's overlay show a folder by another's name."""

    def fill(tar: tarfile.TarFile) -> None:
        for name, value in (("redirect", "/look"), ("metacopy", ""), ("opaque", "y"), ("origin", "x")):
            headers = {f"SCHILY.xattr.{space}.overlay.{name}": value for space in ("trusted", "user")}
            add_file(tar, f"marked-{name}", b"plain", pax_headers=headers)
        add_file(tar, "capable", b"plain", pax_headers={"SCHILY.xattr.security.capability": "\1\0\0\2" + "\x7f" * 16})

    reference = host.image(fill)
    boots_as_any_other(host, reference)
    root = host.agent.state / "images" / reference.replace("/", "%2F").replace(":", "%3A") / "rootfs"
    kept = {name for path in root.iterdir() for name in os.listxattr(path, follow_symlinks=False)}
    assert kept <= {"security.capability"}, kept  # which a nosuid mount does not heed


def test_an_image_with_programs_of_other_users(host: Host) -> None:
    """Set-user-id programs are on a nosuid mount, and what they belong to on the host is nobody."""
    reference = host.image(lambda tar: add_file(tar, "su", host.look, 0o6777, uid=0, gid=0))
    vm = host.create(reference)
    try:
        assert host.see(vm, "/su") == {"/su": "file written"}
    finally:
        host.agent.clean(vm)


def test_an_image_whose_config_is_hostile(host: Host) -> None:
    """Its environment reaches commands and not the host's programs: no loader, no path of theirs."""
    layout = Layout()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_file(tar, "look", host.look, 0o755)
    layer = buffer.getvalue()
    environment = ["LD_PRELOAD=/evil.so", "PATH=/evil", "TMPDIR=/evil", "AGENT_STATE_DIR=/evil", "MALLOC_TRACE=/x"]
    changed = config([layer], config={"Env": environment, "WorkingDir": str(host.victim), "User": "12345"})
    layout.index(layout.image([layer], config=changed))
    path = layout.tar(host.folder / "image.tar")
    host.agent.run("image", "import", str(path), "--name", "hostile/config:1", check=True)
    boots_as_any_other(host, "hostile/config:1")


@pytest.mark.parametrize("place", ["etc", "etc/resolv.conf"])
def test_an_image_whose_resolver_is_a_link(host: Host, tmp_path: pathlib.Path, place: str) -> None:
    """With a network /etc/resolv.conf is written: in the VM, whatever is there."""
    target = str(host.victim / "resolv.conf") if place.endswith("conf") else str(host.victim)
    reference = host.image(lambda tar: add_link(tar, place, target))
    site = Site(host.agent, tmp_path)
    try:
        site.lay_cable()
        words = ("vm", "create", "--language", "python", "--network", "allow_all", "--image", reference)
        vm = json.loads(site.run(*words))["id"]
        assert host.see(vm, "/etc", "/etc/resolv.conf") == {"/etc": "folder written", "/etc/resolv.conf": "file written"}
        host.agent.clean(vm)
    finally:
        site.close()
    assert host.untouched()


def test_swapping_links_in_the_image_while_vms_start(host: Host, tmp_path: pathlib.Path) -> None:
    """A tree that changes while it is mounted from: whatever a start finds, it is not the host's folder."""
    reference = host.image(lambda tar: [add_file(tar, f"{name}/x") for name in ("dev", "proc", "workspace", "etc")])
    root = host.agent.state / "images" / reference.replace("/", "%2F").replace(":", "%3A") / "rootfs"
    script = (
        "import os, sys\n"
        "root, victim, stop = sys.argv[1:]\n"
        "while not os.path.exists(stop):\n"
        "    for name in ('dev', 'proc', 'workspace', 'etc'):\n"
        "        path = os.path.join(root, name)\n"
        "        os.rename(path, path + '.away')\n"
        "        os.symlink(victim, path)\n"
        "        os.unlink(path)\n"
        "        os.rename(path + '.away', path)\n"
    )
    stop = tmp_path / "stop"
    swapper = subprocess.Popen(["/usr/bin/python3", "-c", script, root, host.victim, stop])
    try:
        for _ in range(15):
            result = host.agent.run("vm", "create", "--language", "python", "--image", reference)
            if result.code == 0:
                vm = result.json()["id"]
                assert host.see(vm, "/dev/null", "/workspace/in")["/dev/null"] == "device 1 3"
                host.agent.clean(vm)
            else:
                assert result.error()["code"] == "vm_start_failed"
            assert host.untouched()
    finally:
        stop.touch()
        swapper.wait(timeout=30)
    assert swapper.returncode == 0
