# SPDX-License-Identifier: Apache-2.0
"""Capabilities, users and file modes: what root in a VM can do, tried and not read off a mask."""

from __future__ import annotations

import errno

from tests.security.conftest import Arena

# What root needs to install packages, change users and serve: src/launcher/namespace/caps.c.
KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "NET_BIND_SERVICE", "SYS_CHROOT", "SETFCAP")

# Without these two the kernel says "permission denied" rather than "not permitted".
DENIED_OTHERWISE = {
    "SYS_NICE": errno.EACCES,
    "IPC_OWNER": errno.EACCES,
    "LEASE": errno.EACCES,
    "without no_new_privs": errno.EINVAL,
    "without filter": errno.EINVAL,
}


def test_using_every_capability(arena: Arena) -> None:
    """Each for what it is good for; those that are kept work, the others do not, and none comes back."""
    got = arena.attempts("/workspace/powers")
    assert len(got) > 35
    assert {name for name, error in got.items() if error == 0} == set(KEPT)
    for name, error in got.items():
        if name not in KEPT:
            expected = {DENIED_OTHERWISE.get(name, errno.EPERM)}
            if name == "MAC_ADMIN":
                expected |= {errno.EOPNOTSUPP}
            if name == "WAKE_ALARM":
                expected |= {errno.EOPNOTSUPP, errno.EINVAL}
            assert error in expected, (name, errno.errorcode[error])


def test_every_mask_of_capabilities(arena: Arena) -> None:
    """Of a command, and of what it becomes by exec of a set-user-id program with file capabilities."""
    program = """
        import os, shutil, struct, subprocess
        shutil.copy("/bin/cat", "/usr/local/cat")
        os.setxattr("/usr/local/cat", "security.capability", struct.pack("<5I", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0))
        os.chmod("/usr/local/cat", 0o6755)
        run = ["/usr/local/cat", "/proc/self/status"]
        print(open("/proc/self/status").read())
        print(subprocess.run(run, capture_output=True, text=True).stdout)
        print(subprocess.run(run, capture_output=True, text=True, user=1000, group=1000).stdout)
    """
    allowed = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 10, 18, 31))
    masks = [line.split(":\t") for line in arena.python(program).text.splitlines() if line.startswith("Cap")]
    assert len(masks) == 15
    for name, mask in masks:
        assert int(mask, 16) & ~allowed == 0, (name, mask)
        assert name not in ("CapInh", "CapAmb") or int(mask, 16) == 0
    for name, mask in masks[10:]:
        assert name == "CapBnd" or int(mask, 16) == 0, "an ordinary user of the VM gets none by a set-user-id program"


def test_becoming_root_again_by_a_set_user_id_program(arena: Arena) -> None:
    """The mounts are nosuid, also those that a guest may write."""
    program = """
        import os, shutil, subprocess
        for place in ("/tmp", "/dev/shm", "/workspace", "/dev"):
            path = f"{place}/id"
            shutil.copy("/usr/bin/id", path)
            os.chmod(path, 0o6755)
            try:
                print(subprocess.run([path, "-u"], capture_output=True, text=True, user=1000, group=1000).stdout.strip())
            except PermissionError:
                print("not run")
            os.unlink(path)
    """
    assert arena.python(program).text.split("\n")[:-1] == ["1000", "not run", "1000", "not run"]


def test_users_of_the_host(arena: Arena) -> None:
    """No uid beyond the VM's own range can be taken, in it or in one of its namespaces."""
    program = """
        import os, json
        out = {}
        for uid in (65536, 0x60000000, 0x60000000 - 1, 2**31, 2**32 - 2):
            for name, call in (("setuid", lambda: os.setresuid(-1, uid, -1)), ("chown", lambda: os.chown("/tmp", uid, uid)),
                               ("setgroups", lambda: os.setgroups([uid]))):
                try:
                    call()
                    out[f"{name} {uid}"] = 0
                except OSError as error:
                    out[f"{name} {uid}"] = error.errno
        for name in ("uid_map", "gid_map", "setgroups"):
            try:
                os.write(os.open(f"/proc/self/{name}", os.O_WRONLY), b"allow" if name == "setgroups" else b"0 0 1")
                out[name] = 0
            except OSError as error:
                out[name] = error.errno
        print(json.dumps(out))
    """
    answers = arena.ask(program)
    assert isinstance(answers, dict) and len(answers) == 18
    assert set(answers.values()) <= {errno.EINVAL, errno.EPERM, errno.EACCES}, answers


def test_attributes_that_the_overlay_or_the_kernel_trusts(arena: Arena) -> None:
    """trusted.*, with which an overlay's layers could be redirected, and those of security modules."""
    program = """
        import os, json
        open("/tmp/file", "w").close()
        os.makedirs("/tmp/dir", exist_ok=True)
        out = {}
        for place in ("/tmp/file", "/tmp/dir", "/usr/bin", "/dev/shm"):
            for name in ("trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.overlay.metacopy",
                         "trusted.overlay.origin", "trusted.x", "security.ima", "security.evm", "security.x"):
                try:
                    os.setxattr(place, name, b"/etc")
                    out[f"{place} {name}"] = 0
                except OSError as error:
                    out[f"{place} {name}"] = error.errno
        print(json.dumps(out))
    """
    answers = arena.ask(program)
    assert isinstance(answers, dict) and len(answers) == 32
    assert set(answers.values()) <= {errno.EPERM, errno.EOPNOTSUPP}, answers


def test_whiteouts_and_device_nodes(arena: Arena) -> None:
    """No device can be made; a whiteout, which is one of number 0, hides nothing of the image."""
    program = """
        import os, stat, json
        out = {}
        for place in ("/", "/tmp", "/dev", "/dev/shm", "/workspace"):
            for kind, number in (("c 1 1", (stat.S_IFCHR, 1, 1)), ("b 7 0", (stat.S_IFBLK, 7, 0)), ("c 5 1", (stat.S_IFCHR, 5, 1)),
                                 ("c 10 200", (stat.S_IFCHR, 10, 200)), ("c 10 229", (stat.S_IFCHR, 10, 229))):
                try:
                    os.mknod(f"{place}/node", number[0] | 0o666, os.makedev(*number[1:]))
                    out[f"{place} {kind}"] = 0
                except OSError as error:
                    out[f"{place} {kind}"] = error.errno
        try:
            os.mknod("/usr/whiteout", stat.S_IFCHR, 0)
            out["whiteout"] = 0
        except OSError as error:
            out["whiteout"] = error.errno
        print(json.dumps(out))
    """
    answers = arena.ask(program)
    assert isinstance(answers, dict) and set(answers.values()) == {errno.EPERM}, answers


def test_raising_a_limit(arena: Arena) -> None:
    """No hard limit goes up, and nobody is less likely to be killed for memory than init."""
    program = """
        import os, resource, json
        out = {}
        for name in ("CORE", "NOFILE", "NPROC", "MEMLOCK", "MSGQUEUE", "NICE", "RTPRIO", "SIGPENDING"):
            number = getattr(resource, f"RLIMIT_{name}", {"SIGPENDING": 11}.get(name))
            soft, hard = resource.getrlimit(number)
            if hard == resource.RLIM_INFINITY:
                continue
            try:
                resource.setrlimit(number, (soft, hard + 1))
                out[name] = 0
            except (OSError, ValueError):
                out[name] = 1
        for path in ("/proc/self/oom_score_adj", "/proc/1/oom_score_adj"):
            for value in ("-1", "-1000"):
                try:
                    os.write(os.open(path, os.O_WRONLY), value.encode())
                    out[path + value] = 0
                except OSError:
                    out[path + value] = 1
        print(json.dumps({"limits": out, "core": resource.getrlimit(resource.RLIMIT_CORE)}))
    """
    answers = arena.ask(program)
    assert isinstance(answers, dict) and set(answers["limits"].values()) == {1}, answers
    assert {"NOFILE", "NPROC"} <= set(answers["limits"]) and answers["core"] == [0, 0]


def test_leaving_a_chroot_and_the_root(arena: Arena) -> None:
    """The classic: chroot below, and up with a working directory above. The root of the VM is where it ends."""
    program = """
        import os
        os.makedirs("/tmp/jail", exist_ok=True)
        outside = os.open("/", os.O_RDONLY)
        os.chroot("/tmp/jail")
        os.fchdir(outside)
        for _ in range(100):
            os.chdir("..")
        os.chroot(".")
        print(open("/proc/1/comm").read().strip(), os.stat("/").st_ino == os.stat("/..").st_ino)
        print(sorted(os.listdir("/")))
    """
    here = sorted(arena.sh("ls -A /").split())
    assert arena.python(program).text == f"era-init True\n{here}\n"
