# SPDX-License-Identifier: Apache-2.0
"""era-unpack against hostile layers: whatever they say, nothing happens outside of the image's own root.

Each test makes a layer with Python's tarfile, which writes what no honest tool would, and runs the program on it. Around
the work directory lies a canary tree whose every byte, mode and time must be as before.
"""

import gzip
import hashlib
import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("AGENT_BUILD_DIR", ROOT / "build"))
UNPACK = BUILD / "src" / "main" / "era-unpack"

DIR, SYM, LINK, CHR, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


def entry(name, data=b"", kind=tarfile.REGTYPE, target="", mode=0o644, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, target, mode, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(*entries, form=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def snapshot(top, leave_out):
    """All that can be seen of a tree, without the one folder that may change."""
    seen = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if pathlib.Path(folder) / name != leave_out]
        for name in ["."] + folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            # The folder that holds the work directory changes its times when that is made.
            facts = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink)
            if stat.S_ISREG(st.st_mode):
                facts += (st.st_size, st.st_mtime_ns, st.st_ctime_ns, pathlib.Path(path).read_bytes())
            elif stat.S_ISLNK(st.st_mode):
                facts += (os.readlink(path),)
            seen[os.path.relpath(path, top)] = facts
    return seen


class Sandbox:
    """A canary tree with a work directory in it."""

    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.work = self.top / "state" / "images" / "work"
        self.work.mkdir(parents=True)
        self.root = self.work / "rootfs"
        self.secret = self.top / "secret"
        self.secret.write_text("not yours")
        (self.top / "etc").mkdir()
        (self.top / "etc" / "passwd").write_text("root")
        (self.top / "state" / "state.db").write_text("facts")
        self.before = snapshot(self.top, self.work)

    def run(self, *layers, options=(), digests=None):
        fds, words = [], []
        for i, data in enumerate(layers):
            fd = os.memfd_create(f"layer{i}")
            os.write(fd, data) if data else None
            os.lseek(fd, 0, os.SEEK_SET)
            fds.append(fd)
            digest, diff_id = digests[i] if digests else ("", "")
            words.append(f"{fd},{digest},{diff_id}")
        try:
            done = subprocess.run(
                [UNPACK, "layers", *options, self.work, *words],
                pass_fds=fds,
                capture_output=True,
                timeout=60,
                check=False,
            )
        finally:
            for fd in fds:
                os.close(fd)
        # The promise that every test is about.
        assert snapshot(self.top, self.work) == self.before
        assert sorted(os.listdir(self.work)) in (["rootfs"], [])
        assert done.stderr == b""
        return done

    def ok(self, *layers, **options):
        done = self.run(*layers, **options)
        assert done.returncode == 0, done.stdout
        return done.stdout.decode()

    def refused(self, *layers, code="image_corrupt", **options):
        done = self.run(*layers, **options)
        assert done.returncode == 1, done.stdout
        last = done.stdout.decode().splitlines()[-1]
        assert last.startswith(f"error {code} "), last
        return last

    def path(self, name):
        return self.root / name

    def text(self, name):
        assert not self.path(name).is_symlink()
        return self.path(name).read_text()


@pytest.fixture
def box():
    # Not pytest's own: the work directory's parents must not be links, and its removal must cope with any mode.
    top = tempfile.mkdtemp(prefix="era-unpack-")
    try:
        yield Sandbox(top)
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", top], check=False)
        shutil.rmtree(top)


# ---- what must work -----------------------------------------------------------------------------------------------------


def test_an_ordinary_layer(box):
    out = box.ok(
        layer(
            entry("./", kind=DIR, mode=0o755),
            entry("usr/", kind=DIR, mode=0o755),
            entry("usr/bin/tool", b"#!/bin/sh\n", mode=0o755, mtime=1000000000),
            entry("usr/bin/alias", kind=SYM, target="tool"),
            entry("usr/bin/other", kind=LINK, target="usr/bin/tool"),
            entry("deep/er/still", b"x", mode=0o600),
        )
    )
    assert box.text("usr/bin/tool") == "#!/bin/sh\n"
    assert box.path("usr/bin/tool").stat().st_mtime == 1000000000
    assert stat.S_IMODE(box.path("usr/bin/tool").stat().st_mode) == 0o755
    assert os.readlink(box.path("usr/bin/alias")) == "tool"
    assert box.path("usr/bin/other").stat().st_ino == box.path("usr/bin/tool").stat().st_ino
    assert stat.S_IMODE(box.path("deep/er/still").stat().st_mode) == 0o600
    assert "size " in out and "entries 8\n" in out


@pytest.mark.parametrize("compress", ["none", "gzip", "two members", "zstd"])
def test_compressions(box, compress):
    data = layer(entry("file", b"text" * 10000))
    packed = {
        "none": lambda: data,
        "gzip": lambda: gzip.compress(data),
        "two members": lambda: gzip.compress(data[:700]) + gzip.compress(data[700:]),
        "zstd": lambda: subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout,
    }[compress]()
    digests = [("sha256:" + hashlib.sha256(packed).hexdigest(), "sha256:" + hashlib.sha256(data).hexdigest())]
    box.ok(packed, digests=digests)
    assert box.text("file") == "text" * 10000


def test_layers_come_one_over_the_other(box):
    box.ok(
        layer(entry("a", b"1"), entry("b", b"1"), entry("d/x", b"1"), entry("to-file/x", b"1"), entry("to-dir", b"1")),
        layer(entry("b", b"2"), entry("to-file", b"2"), entry("to-dir", kind=DIR, mode=0o755), entry("d/y", b"2")),
    )
    assert (box.text("a"), box.text("b"), box.text("to-file")) == ("1", "2", "2")
    assert box.path("to-dir").is_dir()
    assert sorted(os.listdir(box.path("d"))) == ["x", "y"]


def test_names_of_any_bytes(box):
    names = ["ümläut", "日本", "with space", "new\nline", "back\\slash", "-rf", "%2e%2e", "..."]
    box.ok(layer(*[entry(name, b"x") for name in names]), layer(entry("latin-\udcfc", b"x"), form=tarfile.GNU_FORMAT))
    assert sorted(os.listdir(box.root)) == sorted(names + ["latin-\udcfc"])


def test_long_names(box):
    name = "/".join(["d" * 200] * 15)
    box.ok(layer(entry(name, b"x")), layer(entry(name + "2", b"y"), form=tarfile.GNU_FORMAT))
    assert box.text(name) == "x"


def test_owners_and_set_id_bits_are_kept(box):
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has no other ids")
    box.ok(layer(entry("su", b"x", mode=0o4755, uid=123, gid=456), entry("l", kind=SYM, target="su", uid=7, gid=8)))
    st = box.path("su").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (123, 456, 0o4755)
    assert box.path("l").lstat().st_uid == 7


def test_sparse_files(box):
    data = subprocess.run(
        ["sh", "-c", 'd=$(mktemp -d) && cd $d && truncate -s 10M f && echo end >> f && truncate -s 20M f && tar cSf - f && rm -r $d'],
        capture_output=True,
        check=True,
    ).stdout
    box.ok(data)
    assert box.path("f").stat().st_size == 20 << 20
    assert box.path("f").stat().st_blocks < 1000


def test_empty_layers(box):
    box.ok(b"", layer(), gzip.compress(layer()))


def test_directories_that_nobody_may_enter(box):
    box.ok(layer(entry("shut", kind=DIR, mode=0), entry("shut/in", b"x", mode=0)), layer(entry("shut/in", b"y", mode=0)))
    assert stat.S_IMODE(box.path("shut").stat().st_mode) == 0


# ---- symlinks among the parents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "./usr/../usr/lib/", "../../../../usr/lib", "/../usr/lib"])
def test_links_among_the_parents_stay_inside(box, target):
    """Real images have `lib -> usr/lib` in one layer and `lib/x` in a later one."""
    box.ok(
        layer(entry("usr/lib", kind=DIR, mode=0o755), entry("lib", kind=SYM, target=target)), layer(entry("lib/x", b"x"))
    )
    assert box.text("usr/lib/x") == "x"
    assert box.path("lib").is_symlink()


def test_a_link_to_the_host_leads_into_the_image(box):
    box.ok(layer(entry("out", kind=SYM, target=str(box.top)), entry("out/secret", b"mine")))
    assert box.path(str(box.top).lstrip("/") + "/secret").read_text() == "mine"


@pytest.mark.parametrize("climb", ["..", "../../../../../../../..", "/..", "/../../../.."])
def test_a_link_upwards_ends_at_the_root(box, climb):
    box.ok(layer(entry("up", kind=SYM, target=climb), entry("up/etc/passwd", b"mine")))
    assert box.text("etc/passwd") == "mine"


def test_links_by_way_of_links(box):
    box.ok(
        layer(
            entry("a", kind=SYM, target="b/.."),
            entry("b", kind=SYM, target="c"),
            entry("c", kind=DIR, mode=0o755),
            entry("a/x", b"x"),
        )
    )
    assert box.text("x") == "x"


@pytest.mark.parametrize("loop", [[("a", "a")], [("a", "b"), ("b", "a")], [("a", "b/x"), ("b", "a/x")]])
def test_circles_of_links(box, loop):
    box.refused(layer(*[entry(name, kind=SYM, target=to) for name, to in loop], entry("a/x", b"x")))


def test_a_dangling_link_among_the_parents_gets_its_directory(box):
    box.ok(layer(entry("a", kind=SYM, target="not/yet"), entry("a/x", b"x")))
    assert box.text("not/yet/x") == "x"


def test_links_that_explode(box):
    """Each link doubles the path that is left to walk."""
    links = [entry("l0", kind=DIR, mode=0o755)]
    links += [entry(f"l{i}", kind=SYM, target=f"l{i - 1}/../l{i - 1}/..") for i in range(1, 60)]
    box.run(layer(*links, entry("l59/x", b"x")))


def test_nothing_is_written_through_a_link(box):
    box.ok(
        layer(entry("f", kind=SYM, target=str(box.secret)), entry("f", b"mine")),
        layer(entry("g", kind=SYM, target="f")),
        layer(entry("g", b"other")),
    )
    assert (box.text("f"), box.text("g")) == ("mine", "other")


def test_nothing_is_written_through_a_hard_link(box):
    box.ok(layer(entry("a", b"a"), entry("b", kind=LINK, target="a")), layer(entry("b", b"b", mode=0o777)))
    assert (box.text("a"), box.text("b")) == ("a", "b")
    assert stat.S_IMODE(box.path("a").stat().st_mode) == 0o644


def test_a_directory_entry_over_a_link_is_a_directory(box):
    box.ok(layer(entry("d", kind=SYM, target=str(box.top)), entry("d", kind=DIR, mode=0o700), entry("d/secret", b"mine")))
    assert box.path("d").is_dir() and not box.path("d").is_symlink()
    assert box.text("d/secret") == "mine"


# ---- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "../../../../tmp/x", "a/../x", "a/../../x", "./../x", "/..", "/../x", "a/..", "a/b/../../../x", "..//x"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, DIR, SYM, LINK])
def test_names_that_climb(box, name, kind):
    box.refused(layer(entry("a/b", kind=DIR, mode=0o755), entry("f", b"x"), entry(name, kind=kind, target="f")))


@pytest.mark.parametrize("name", ["/x", "//x", "///x", "/./x", ".//./x"])
def test_absolute_names_are_the_images_own(box, name):
    box.ok(layer(entry(name, b"x")))
    assert box.text("x") == "x"


def test_absolute_names_of_the_host(box):
    box.ok(layer(entry(str(box.secret), b"mine")))
    assert box.path(str(box.secret).lstrip("/")).read_text() == "mine"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, SYM, LINK])
@pytest.mark.parametrize("name", [".", "./", "/", "./."])
def test_the_root_can_be_replaced_by_nothing(box, name, kind):
    if kind == tarfile.REGTYPE and name.endswith("/"):
        box.ok(layer(entry(name)))  # old tar files write directories so
    else:
        box.refused(layer(entry("f", b"x"), entry(name, kind=kind, target="f")))


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "x" * 256 + "/b", "/".join(["x" * 100] * 60)])
def test_names_that_are_too_long(box, name):
    box.refused(layer(entry(name, b"x")))


def test_nesting_that_is_too_deep(box):
    box.ok(layer(entry("/".join(["d"] * 128), b"x")))
    box.refused(layer(entry("/".join(["d"] * 129), b"x")))


def test_nesting_deeper_by_links(box):
    deep = "/".join(["d"] * 100)
    box.refused(layer(entry(deep, kind=DIR, mode=0o755), entry("a", kind=SYM, target=deep), entry("a/" + deep + "/f", b"x")))


# ---- hard links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["../secret", "/../secret", "../../../../../../../../etc/passwd", "a/../../secret", "missing", "missing/x"]
)
def test_hard_links_to_what_is_outside(box, target):
    box.refused(layer(entry("h", kind=LINK, target=target)))
    assert not box.path("h").exists()


def test_hard_links_to_nothing(box):
    box.run(layer(entry("h", kind=LINK, target="")))
    assert not box.path("h").exists()


def test_hard_links_to_absolute_paths_are_the_images_own(box):
    box.refused(layer(entry("h", kind=LINK, target="/etc/passwd")))
    box.ok(layer(entry("etc/passwd", b"mine"), entry("h", kind=LINK, target="/etc/passwd")))
    assert box.text("h") == "mine"


def test_hard_links_through_links(box):
    box.refused(layer(entry("s", kind=SYM, target=str(box.top)), entry("h", kind=LINK, target="s/secret")))
    box.ok(layer(entry("d/f", b"x"), entry("t", kind=SYM, target="../../d"), entry("h", kind=LINK, target="t/f")))
    assert box.text("h") == "x"


def test_hard_links_to_links_are_links(box):
    box.ok(layer(entry("s", kind=SYM, target=str(box.secret)), entry("h", kind=LINK, target="s")), layer(entry("h", b"x")))
    assert os.readlink(box.path("s")) == str(box.secret)
    assert box.text("h") == "x"


def test_hard_links_to_directories_and_themselves(box):
    box.refused(layer(entry("d", kind=DIR, mode=0o755), entry("h", kind=LINK, target="d")))
    box.refused(layer(entry("self", kind=LINK, target="self")))
    box.ok(layer(entry("f", b"x"), entry("f", kind=LINK, target="f")))
    assert box.text("f") == "x"


# ---- kinds of entries ----------------------------------------------------------------------------------------------------


def test_devices_and_pipes_are_left_out(box):
    box.ok(
        layer(
            entry("disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=0),
            entry("mem", kind=CHR, devmajor=1, devminor=1),
            entry("whiteout", kind=CHR),
            entry("pipe", kind=FIFO),
            entry("f", b"x"),
        )
    )
    assert os.listdir(box.root) == ["f"]


def test_only_harmless_attributes_are_kept(box):
    if os.geteuid() != 0:
        pytest.skip("security.capability takes root")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    attributes = {
        "user.note": b"kept",
        "user.overlay.redirect": b"/etc",
        "user.overlay.opaque": b"y",
        "security.capability": capability,
        "security.selinux": b"x",
        "trusted.overlay.opaque": b"y",
    }
    headers = {f"SCHILY.xattr.{name}": value.decode("latin-1") for name, value in attributes.items()}
    info, data = entry("f", b"x", mode=0o755)
    info.pax_headers = headers
    box.ok(layer((info, data)))
    got = {name: os.getxattr(box.path("f"), name) for name in os.listxattr(box.path("f"))}
    assert got.pop("user.note") == b"kept"
    assert "security.capability" in got
    assert list(got) == ["security.capability"]


def test_attributes_too_many_and_too_large(box):
    info, data = entry("f", b"x")
    info.pax_headers = {f"SCHILY.xattr.user.{i}": "v" * 1000 for i in range(1000)}
    big, _ = entry("g", b"x")
    big.pax_headers = {"SCHILY.xattr.user.big": "v" * 100000, "SCHILY.xattr.user." + "n" * 300: "v"}
    box.ok(layer((info, data), (big, b"x")))
    assert len(os.listxattr(box.path("f"))) <= 64
    assert os.listxattr(box.path("g")) == []


# ---- whiteouts -----------------------------------------------------------------------------------------------------------

LOWER = [entry("a", b"1"), entry("d/x", b"1"), entry("d/sub/y", b"1"), entry("keep", b"1")]


def test_whiteouts(box):
    box.ok(layer(*LOWER), layer(entry(".wh.a"), entry("d/.wh.sub"), entry(".wh.missing"), entry("no/where/.wh.x")))
    assert sorted(os.listdir(box.root)) == ["d", "keep"]
    assert os.listdir(box.path("d")) == ["x"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_hides_nothing_of_its_own_layer(box, first):
    parts = [entry("a", b"2"), entry("d/sub/z", b"2")]
    hides = [entry(".wh.a"), entry("d/.wh.sub")]
    box.ok(layer(*LOWER), layer(*(hides + parts if first else parts + hides)))
    assert box.text("a") == "2"
    assert os.listdir(box.path("d/sub")) == ["z"]


@pytest.mark.parametrize("first", [True, False])
def test_opaque_directories(box, first):
    parts = [entry("d/new", b"2"), entry("d/sub/z", b"2")]
    opaque = [entry("d/.wh..wh..opq")]
    box.ok(layer(*LOWER), layer(*(opaque + parts if first else parts + opaque)))
    assert sorted(os.listdir(box.path("d"))) == ["new", "sub"]
    assert os.listdir(box.path("d/sub")) == ["z"]
    assert box.text("keep") == "1"


def test_an_opaque_root(box):
    box.ok(layer(*LOWER), layer(entry(".wh..wh..opq"), entry("n", b"x")))
    assert os.listdir(box.root) == ["n"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.a/b", "d/.wh.sub/y/z"])
def test_hostile_whiteouts(box, name):
    box.refused(layer(*LOWER), layer(entry(name)))
    assert box.text("d/sub/y") == "1"


@pytest.mark.parametrize("name", [".wh..wh.aufs", ".wh..wh.plnk/1.2", ".wh..wh.orph/x", ".wh..wh..opq.x"])
def test_the_bookkeeping_of_aufs_is_left_out(box, name):
    box.ok(layer(*LOWER), layer(entry(name, b"x")))
    assert sorted(os.listdir(box.root)) == ["a", "d", "keep"]


def test_whiteouts_through_links_stay_inside(box):
    link = entry("out", kind=SYM, target=str(box.top))
    box.ok(layer(link), layer(entry("out/.wh.secret"), entry("out/.wh..wh..opq")))
    link = entry("up", kind=SYM, target="../../..")
    box.ok(layer(link, entry("state/x", b"1")), layer(entry("up/.wh.state")))
    assert not box.path("state").exists()


def test_a_whiteout_of_a_link_removes_the_link(box):
    box.ok(layer(entry("l", kind=SYM, target="d"), entry("d/f", b"x")), layer(entry(".wh.l")))
    assert not os.path.lexists(box.path("l"))
    assert box.text("d/f") == "x"


def test_hard_links_to_whiteouts(box):
    box.refused(layer(entry("f", b"x"), entry("h", kind=LINK, target=".wh.f")))


# ---- sizes and damage ----------------------------------------------------------------------------------------------------


def test_bytes_are_bounded(box):
    box.ok(layer(entry("f", b"x" * 1000)), options=["--max-bytes", "1000"])
    box.refused(layer(entry("f", b"x" * 1001)), options=["--max-bytes", "1000"])
    box.refused(layer(entry("f", b"x" * 600)), layer(entry("f", b"x" * 600)), options=["--max-bytes", "1000"])


def test_a_bomb_is_stopped(box):
    bomb = gzip.compress(b"\0" * (64 << 20))
    box.refused(bomb, options=["--max-bytes", "1000", "--max-entries", "10"])


def test_a_hole_counts_as_bytes(box):
    info, _ = entry("f")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "huge",
        "GNU.sparse.realsize": str(1 << 50),
    }
    data = b"1\n0\n0\n".ljust(512, b"\0")
    info.size = len(data)
    box.refused(layer((info, data)))
    assert not box.path("huge").exists() or box.path("huge").stat().st_size < 1 << 40


def test_entries_are_bounded(box):
    many = layer(*[entry(f"f{i}") for i in range(11)])
    box.refused(many, options=["--max-entries", "10"])
    box.refused(layer(entry("/".join("abcdefghijkl"), b"x")), options=["--max-entries", "10"])
    box.refused(layer(*[entry(f".wh.{i}") for i in range(11)]), options=["--max-entries", "10"])


def test_digests_must_match(box):
    data = layer(entry("f", b"x"))
    wrong = "sha256:" + "0" * 64
    assert wrong in box.refused(data, digests=[(wrong, "")])
    assert wrong in box.refused(data, digests=[("", wrong)])
    # Bytes after the end belong to the digest.
    right = "sha256:" + hashlib.sha256(data).hexdigest()
    box.refused(data + b"more", digests=[(right, "")])


def test_damaged_archives(box):
    data = layer(entry("f", b"x" * 5000), entry("g", b"y" * 5000))
    box.refused(data[:3000])
    box.refused(gzip.compress(data)[:-20])
    box.refused(b"\x1f\x8b" + b"\0" * 100)
    box.refused(b"not an archive at all" * 100)
    broken = bytearray(data)
    broken[0:10] = b"\xff" * 10
    box.refused(bytes(broken))


def test_other_formats_are_not_taken(box, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("../x", "x")
    box.refused((tmp_path / "z.zip").read_bytes())


def test_messages_are_one_line(box):
    done = box.run(layer(entry("new\nerror integrity_mismatch 1 forged/../x\x1b[31m", b"x")))
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["progress", "error"]
    assert lines[-1].startswith("error image_corrupt ") and "\x1b" not in lines[-1]


# ---- the sandbox ---------------------------------------------------------------------------------------------------------


def test_what_the_program_may_do(box):
    """Looked at from outside while it waits for a layer that does not come."""
    readable, writable = os.pipe()
    program = subprocess.Popen(
        [UNPACK, "layers", box.work, f"{readable},,"], pass_fds=[readable], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout.readline().startswith("progress ")
        status = dict(
            line.split(":\t", 1) for line in pathlib.Path(f"/proc/{program.pid}/status").read_text().splitlines() if ":\t" in line
        )
        capabilities = sum(1 << n for n in (0, 1, 3, 4, 31))  # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == capabilities
        assert int(status["CapBnd"], 16) == int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        if "AGENT_SANITIZED" not in os.environ:
            assert status["Seccomp"] == "2"
        for namespace in ("mnt", "net", "ipc"):
            theirs = os.readlink(f"/proc/{program.pid}/ns/{namespace}")
            assert theirs != os.readlink(f"/proc/self/ns/{namespace}")
        mounts = pathlib.Path(f"/proc/{program.pid}/mountinfo").read_text().splitlines()
        assert len(mounts) == 1 and " / " in mounts[0]
        assert all(flag in mounts[0] for flag in ("nosuid", "nodev", "noexec"))
        assert os.listdir(f"/proc/{program.pid}/root/") == ["rootfs"]
    finally:
        os.close(readable)
        os.close(writable)
        program.wait(timeout=10)
        program.stdout.close()


@pytest.mark.parametrize(
    "words", [[], ["what"], ["layers"], ["layers", "relative"], ["layers", "/nowhere-at-all"], ["hash", "99"], ["hash", "x"]]
)
def test_wrong_usage(words):
    done = subprocess.run([UNPACK, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error ")
