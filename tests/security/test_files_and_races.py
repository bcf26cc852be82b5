# SPDX-License-Identifier: Apache-2.0
"""Files that change their kind while they are copied, and volumes that somebody else filled.

In the VM a process flips a name between a file, a folder, a link to the root, a
link that climbs, and a FIFO; on the host nothing but the target may change.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually, processes_of, shim_of
from tests.security.conftest import Arena

FLIP = """
import os, sys, shutil
top = sys.argv[1]
os.makedirs(top, exist_ok=True)
os.chdir(top)
def folder():
    os.mkdir("new"); open("new/inner", "w").write("x" * 5000)
kinds = [
    lambda: open("new", "w").write("y" * 100000),
    folder,
    lambda: os.symlink("/", "new"),
    lambda: os.symlink("../../../../../../../../etc", "new"),
    lambda: os.symlink("name/name/name", "new"),
    lambda: os.mkfifo("new"),
    lambda: os.link("/etc/passwd", "new"),
]
print("go", flush=True)
while not os.path.exists("/tmp/stop-flipping"):
    for make in kinds:
        try:
            make()
            if os.path.isdir("name") and not os.path.islink("name"):
                os.rename("name", "old")
            os.rename("new", "name")
        except OSError:
            pass
        shutil.rmtree("old", ignore_errors=True)
        for left in ("new", "old"):
            if os.path.lexists(left):
                shutil.rmtree(left, ignore_errors=True) if os.path.isdir(left) and not os.path.islink(left) else os.unlink(left)
"""


@pytest.fixture
def flipping(arena: Arena) -> Iterator[None]:
    """While the test runs, names change their kind in /workspace/out and /workspace/in."""
    agent = arena.agent
    arena.sh("rm -f /tmp/stop-flipping")
    flippers = []
    for top in ("/workspace/out/race", "/workspace/in"):
        flipper = agent.start("vm", "exec", "--vm", arena.vm, "--", "python3", "-c", FLIP, top, stdout=subprocess.PIPE)
        flippers.append(flipper)
        assert flipper.stdout is not None and flipper.stdout.readline() == b"go\n"
    yield
    arena.sh("touch /tmp/stop-flipping")
    for flipper in flippers:
        flipper.communicate(timeout=30)
        assert flipper.returncode == 0


def tree(folder: pathlib.Path) -> list[str]:
    """All names below a folder, links not followed."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_copying_out_while_names_change(arena: Arena, flipping: None, tmp_path: pathlib.Path) -> None:
    """Every copy comes to an end, and holds nothing but what was below its root; no link leads out of it."""
    done = 0
    for i in range(20):
        target = tmp_path / "targets" / str(i)
        target.mkdir(parents=True)
        result = arena.agent.run("vm", "cp", f"{arena.vm}:/workspace/out/race", str(target), timeout=30)
        done += result.code == 0
        assert result.code == 0 or result.error()["code"], result
        for path in target.rglob("*"):
            if path.is_symlink():
                assert not os.readlink(path).startswith("/")
                assert os.path.normpath(os.path.join(path.parent, os.readlink(path))).startswith(f"{target}/")
            else:
                assert path.is_dir() or path.is_file(), path
        assert set(tree(target)) <= {f"race{end}" for end in ("", *(f"/{n}{i}" for n in ("name", "new", "old") for i in ("", "/inner")))}
    assert os.listdir(tmp_path) == ["targets"]
    assert done > 0


def test_copying_in_while_names_change(arena: Arena, flipping: None, tmp_path: pathlib.Path) -> None:
    """By `vm cp` and by --file: what is written is in the VM, and the host's file stays as it is."""
    source = tmp_path / "name"
    source.write_text("of the host")
    before = (source.stat().st_mtime_ns, source.stat().st_ino)
    passwd = pathlib.Path("/etc/passwd").read_bytes()
    for _ in range(10):
        for words in (
            ("vm", "cp", str(source), f"{arena.vm}:/workspace/in/name"),
            ("vm", "run", "--vm", arena.vm, "--file", str(source), "--cmd", "true"),
        ):
            result = arena.agent.run(*words, timeout=30)
            assert result.code == 0 or result.error()["code"], result
    assert (source.stat().st_mtime_ns, source.stat().st_ino) == before and source.read_text() == "of the host"
    assert pathlib.Path("/etc/passwd").read_bytes() == passwd and os.listdir(tmp_path) == ["name"]


def test_staging_over_what_the_vm_has_there(arena: Arena, tmp_path: pathlib.Path) -> None:
    """A link, a FIFO, a device's name, a folder at /workspace/in/NAME, or in place of /workspace/in itself."""
    agent = arena.agent
    source = tmp_path / "staged"
    source.write_text("of the host")
    places = {
        "ln -s /etc/passwd /workspace/in/staged": True,
        "ln -s /dev/null /workspace/in/staged": True,
        "ln -s /proc/self/fd/1 /workspace/in/staged": True,
        "mkfifo /workspace/in/staged": True,
        "ln /etc/passwd /workspace/in/staged": True,
        "mkdir /workspace/in/staged": False,
        "mv /workspace/in /workspace/away; ln -s /etc /workspace/in": True,
        "mv /workspace/in /workspace/away; mkfifo /workspace/in": False,
        "mv /workspace/in /workspace/away; ln -s in /workspace/in": False,
    }
    before = arena.sh("md5sum /etc/passwd")
    for prepare, works in places.items():
        arena.sh(prepare)
        words = ("vm", "run", "--vm", arena.vm, "--timeout", "10", "--file", str(source), "--cmd", "cat /workspace/in/staged")
        result = agent.run(*words, timeout=30)
        if works:
            assert pathlib.Path(result.json()["stdout"]).read_text() == "of the host", prepare
        assert arena.sh("md5sum /etc/passwd") == before, prepare
        arena.sh("if [ -e /workspace/away ]; then rm -f /workspace/in; mv /workspace/away /workspace/in; fi; rm -rf /workspace/in/staged /etc/staged")
    assert source.read_text() == "of the host"


def test_copying_what_is_no_file(arena: Arena, tmp_path: pathlib.Path) -> None:
    """FIFOs, devices, sockets and endless files: refused or left out, and nobody waits for them."""
    arena.sh(
        "mkdir -p /workspace/odd; cd /workspace/odd; mkfifo fifo; ln -s /dev/zero zero; ln -s /proc/self/mem mem;"
        "python3 -c 'import socket; socket.socket(1).bind(\"socket\")'; echo x > file; chmod 6777 file; ln file hard"
    )
    target = tmp_path / "odd"
    arena.agent.run("vm", "cp", f"{arena.vm}:/workspace/odd", str(target), check=True)
    assert tree(target) == ["file", "hard"] and (target / "file").stat().st_mode & 0o7000 == 0
    for path in ("/workspace/odd/fifo", "/dev/zero", "/dev/tty", "/proc/kcore", "/workspace/odd/socket"):
        result = arena.agent.run("vm", "cp", f"{arena.vm}:{path}", str(tmp_path / "copy"), timeout=30)
        assert result.error()["code"], path
        assert not (tmp_path / "copy").exists()


def test_a_file_with_holes_that_is_larger_than_the_host(arena: Arena, tmp_path: pathlib.Path) -> None:
    """A file of no blocks and terabytes would fill the host's disk by a copy."""
    arena.sh("truncate -s 8T /workspace/hole")
    result = arena.agent.run("vm", "cp", f"{arena.vm}:/workspace/hole", str(tmp_path / "hole"), timeout=60)
    assert result.error()["code"] == "file_too_large"
    assert list(tmp_path.iterdir()) == []
    arena.sh("rm /workspace/hole")


def test_names_that_are_no_words(arena: Arena, tmp_path: pathlib.Path) -> None:
    """Newlines, escapes, bytes that are no UTF-8, dashes, dots, and the longest names there are."""
    program = """
        import os
        os.makedirs("/workspace/names")
        for name in (b"new\\nline", b"\\x1b[2J", b"\\xff\\xfe", b"-rf", b"...", b"..x", b" ", b"*", b"$(id)", b"a" * 255):
            open(b"/workspace/names/" + name, "w").close()
    """
    arena.python(program)
    target = tmp_path / "names"
    arena.agent.run("vm", "cp", f"{arena.vm}:/workspace/names", str(target), check=True)
    assert len(os.listdir(os.fsencode(target))) == 10 and os.listdir(tmp_path) == ["names"]


def test_folders_nested_without_end(arena: Arena, tmp_path: pathlib.Path) -> None:
    """Refused by name, and what was copied until then is below the target."""
    arena.sh("cd /workspace && mkdir deep && cd deep && i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done")
    result = arena.agent.run("vm", "cp", f"{arena.vm}:/workspace/deep", str(tmp_path / "deep"))
    assert result.error()["code"] in ("copy_failed", "tree_too_deep"), result
    assert arena.sh("echo alive") == "alive\n"


def test_a_volume_that_another_vm_filled(agent: Agent, tmp_path: pathlib.Path) -> None:
    """Links to the root, set-user-id programs, FIFOs, attributes, names: files of the next VM and nothing more."""
    first = agent.create("--persist", "--disk", "16")
    volume = ""
    try:
        agent.sh(first, (
            "cd /workspace/persist && ln -s / root && ln -s /proc/1/root init && ln -s ../../../../.. up && mkfifo fifo &&"
            "cp /usr/bin/id id && chmod 6777 id && ln -s /workspace/in in && mkdir -p lost+found .era-1-0.part &&"
            "python3 -c 'import os; os.setxattr(\"id\", \"security.capability\", bytes.fromhex(\"0100000200\" + \"ff\" * 15))' &&"
            "chown 65535:65535 fifo && chmod 0 lost+found"
        ))
        agent.clean(first, "--keep-persist")
        volume = agent.run("volume", "list", "--output", "json", check=True).lines()[0]["name"]
        second = agent.create("--volume", volume)
        try:
            as_user = "python3 -c 'import subprocess; print(subprocess.run([\"/workspace/persist/id\", \"-u\"], capture_output=True, text=True, user=1000).stdout)'"
            assert agent.sh(second, as_user).text.strip() == "1000"
            assert agent.sh(second, "ls /workspace/persist/root/proc/1/comm && cat /proc/1/comm").text.split()[-1] == "era-init"
            target = tmp_path / "copy"
            agent.run("vm", "cp", f"{second}:/workspace/persist", str(target), check=True)
            assert "root" not in tree(target) and "up" not in tree(target) and "fifo" not in tree(target)
            agent.run("vm", "stop", "--vm", second, check=True)
        finally:
            agent.clean(second, "--keep-persist")
    finally:
        agent.clean(first)
        if volume:
            agent.run("volume", "remove", volume)


def test_cleaning_while_everything_changes(agent: Agent) -> None:
    """A VM that makes and removes names as fast as it can is gone when `clean` says so."""
    vm = agent.create()
    shim = shim_of(agent, vm)
    flipper = agent.start("vm", "exec", "--vm", vm, "--", "python3", "-c", FLIP, "/workspace/out/race", stdout=-1, stderr=-1)
    assert flipper.stdout is not None and flipper.stdout.readline() == b"go\n"
    agent.run("vm", "clean", "--vm", vm, check=True)
    flipper.communicate(timeout=30)
    assert flipper.returncode == 125
    assert not (agent.state / "vms" / vm).exists() and shim not in processes_of(agent.state)
    eventually(lambda: not pathlib.Path(f"/proc/{shim}").exists())
