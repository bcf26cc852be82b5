# SPDX-License-Identifier: Apache-2.0
"""`agent image import|list|remove`, and what may happen to an image while a VM uses it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from tests.image.ocilib import (
    ARCHITECTURE,
    BUILD,
    INDEX,
    Images,
    Layout,
    config,
    digest,
    docker_archive,
    layer,
    simple_layout,
)

HOLD = BUILD / "src" / "image" / "image_hold"


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "state")


@contextlib.contextmanager
def held(images, reference):
    """Somebody uses the image; yields the lines of what it was."""
    holder = subprocess.Popen([HOLD, images.state, reference], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    while (line := holder.stdout.readline().strip()) not in ("held", ""):
        lines.append(line)
    try:
        yield lines
    finally:
        holder.stdin.close()
        holder.stdout.close()
        assert holder.wait(timeout=10) == 0


# ---- what is taken -------------------------------------------------------------------------------------------------------


def test_an_oci_archive(images, tmp_path):
    made = images.ok("import", simple_layout({"etc/motd": "hello"}).tar(tmp_path / "i.tar"))
    assert made["reference"] == "made/by-hand:1"
    assert made["source"] == "archive"
    assert (images.root("made/by-hand:1") / "etc/motd").read_text() == "hello"
    with held(images, "made/by-hand:1") as lines:
        assert lines == [made["digest"], "PATH=/usr/bin:/bin", "GREETING=hello"]
    assert images.leftovers() == ["made%2Fby-hand%3A1"]


def test_image_json(images, tmp_path):
    images.ok("import", simple_layout({"f": "x"}).tar(tmp_path / "i.tar"))
    facts = json.loads((images.images / "made%2Fby-hand%3A1" / "image.json").read_text())
    assert sorted(facts) == ["created_at", "digest", "env", "reference", "size_bytes", "source"]


def test_an_oci_folder(images, tmp_path):
    images.ok("import", simple_layout({"f": "x"}).write(tmp_path / "layout"), "--name", "other:1")
    assert (images.root("other:1") / "f").read_text() == "x"


@pytest.mark.parametrize("compress", [True, False])
def test_layers_of_either_kind(images, tmp_path, compress):
    images.ok("import", simple_layout({"f": "x"}, compress=compress).tar(tmp_path / "i.tar"))


def test_a_docker_archive(images, tmp_path):
    layers = [layer({"a": "1", "b": "1"}), layer({"b": "2", ".wh.a": ""})]
    made = images.ok("import", docker_archive(layers).tar(tmp_path / "i.tar"))
    assert made["reference"] == "made/by-docker:1"
    assert os.listdir(images.root("made/by-docker:1")) == ["b"]
    assert (images.root("made/by-docker:1") / "b").read_text() == "2"


def test_a_docker_archive_with_links_between_layers(images, tmp_path):
    """Docker before 25 wrote a layer once, and links to it."""
    same = layer({"a": "1"})
    archive = docker_archive([same, same])
    first, second = (f"{i:064x}/layer.tar" for i in (0, 1))
    del archive.files[second]
    images.ok("import", archive.tar(tmp_path / "i.tar", links={second: "../" + first}))


def test_an_archive_that_is_both(images, tmp_path):
    """Docker from 25 on writes an OCI layout with a manifest.json beside it."""
    layout = simple_layout({"f": "x"}, name=None)
    layout.files["manifest.json"] = json.dumps(
        [{"Config": "blobs/sha256/x", "RepoTags": ["both:2"], "Layers": ["blobs/sha256/y"]}]
    ).encode()
    assert images.ok("import", layout.tar(tmp_path / "i.tar"))["reference"] == "both:2"


def test_an_index_of_several_architectures(images, tmp_path):
    layout = Layout()
    other, ours = (layout.image([layer({"f": text})]) for text in ("other", "ours"))
    unknown = layout.image([layer({"f": "attestation"})])
    other["platform"] = {"os": "linux", "architecture": "s390x"}
    ours["platform"] = {"os": "linux", "architecture": ARCHITECTURE}
    unknown["platform"] = {"os": "unknown", "architecture": "unknown"}
    index = json.dumps({"schemaVersion": 2, "manifests": [other, unknown, ours]}).encode()
    layout.index(layout.blob(index, INDEX))
    images.ok("import", layout.tar(tmp_path / "i.tar"), "--name", "multi:1")
    assert (images.root("multi:1") / "f").read_text() == "ours"


# ---- what is refused -----------------------------------------------------------------------------------------------------


def test_what_is_no_file(images, tmp_path):
    images.refused("file_not_found", "import", tmp_path / "missing")
    images.refused("not_a_file", "import", "/dev/null")
    os.mkfifo(tmp_path / "pipe")
    images.refused("not_a_file", "import", tmp_path / "pipe")


def test_what_is_no_image(images, tmp_path):
    (tmp_path / "text").write_text("hello " * 1000)
    images.refused("image_corrupt", "import", tmp_path / "text")
    (tmp_path / "empty").write_text("")
    images.refused("image_corrupt", "import", tmp_path / "empty")
    (tmp_path / "folder").mkdir()
    images.refused("image_corrupt", "import", tmp_path / "folder")


def test_no_name(images, tmp_path):
    error = images.refused("invalid_argument", "import", simple_layout({"f": "x"}, name=None).tar(tmp_path / "i.tar"))
    assert error["field"] == "name"
    images.refused("invalid_argument", "import", docker_archive([layer({})], tag=None).tar(tmp_path / "d.tar"))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", ".hidden", "a b", "-x", "a//b", "a/", "a" * 300, "", "a\nb"])
def test_hostile_names(images, tmp_path, name):
    done = images.call("import", simple_layout({"f": "x"}).tar(tmp_path / "i.tar"), f"--name={name}")
    assert done.returncode in (1, 2)
    assert images.leftovers() == []


@pytest.mark.parametrize("name", ["../../../../tmp/x:1", "/etc:1", ".work-x:1", "a:1/../../b"])
def test_hostile_names_in_the_archive(images, tmp_path, name):
    images.refused("invalid_argument", "import", simple_layout({"f": "x"}, name=name).tar(tmp_path / "i.tar"))
    images.refused("invalid_argument", "import", docker_archive([layer({})], tag=name).tar(tmp_path / "d.tar"))


def breakages():
    """Each a way to spoil an image: (layout, where, bytes)."""
    good = simple_layout({"f": "x"})
    blobs = [name for name in good.files if name.startswith("blobs/")]
    for name in blobs:
        yield "missing " + name[-6:], lambda files, name=name: files.pop(name)
        yield "other " + name[-6:], lambda files, name=name: files.update({name: files[name][:-1] + b" "})
        yield "longer " + name[-6:], lambda files, name=name: files.update({name: files[name] + b" "})
    yield "index no json", lambda files: files.update({"index.json": b"{"})
    yield "index deep", lambda files: files.update({"index.json": b"[" * 100000})
    yield "index a list", lambda files: files.update({"index.json": b"[]"})
    yield "index twice", lambda files: files.update({"index.json": b'{"manifests":[],"manifests":[]}'})
    yield "index large", lambda files: files.update({"index.json": b" " * (5 << 20)})
    yield "index climbs", lambda files: files.update(
        {"index.json": files["index.json"].replace(b"sha256:", b"sha256:../../../../")}
    )


@pytest.mark.parametrize("breakage", [pytest.param(change, id=name) for name, change in breakages()])
def test_damage(images, tmp_path, breakage):
    layout = simple_layout({"f": "x"})
    breakage(layout.files)
    images.refused("image_corrupt", "import", layout.tar(tmp_path / "i.tar"))
    images.refused("image_corrupt", "import", layout.write(tmp_path / "layout"))


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": {"type": "layers", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha512:x"]}},
        {"rootfs": None},
        {"os": None},
        {"config": {"Env": ["NOEQUALS"]}},
        {"config": {"Env": [1]}},
        {"config": {"Env": ["A=b"] * 300}},
    ],
)
def test_configurations_that_lie(images, tmp_path, change):
    layers = [layer({"f": "x"})]
    layout = Layout()
    layout.index(layout.image(layers, config=config(layers, **change)))
    images.refused("image_corrupt", "import", layout.tar(tmp_path / "i.tar"), "--name=x:1")


def test_another_architecture(images, tmp_path):
    layers = [layer({"f": "x"})]
    layout = Layout()
    layout.index(layout.image(layers, config=config(layers, architecture="s390x")))
    error = images.refused("invalid_argument", "import", layout.tar(tmp_path / "i.tar"), "--name=x:1")
    assert "s390x" in error["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": "x", "size": 1}]},
        {"layers": None},
        {"layers": [{}] * 200},
        {"schemaVersion": 1},
        {"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + "0" * 64, "size": 2}},
        {"config": None},
    ],
)
def test_manifests_of_something_else(images, tmp_path, change):
    layout = Layout()
    manifest = {"schemaVersion": 2, "config": layout.blob(config([]), "application/vnd.oci.image.config.v1+json")}
    manifest["layers"] = []
    manifest.update(change)
    layout.index(layout.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json"))
    images.refused("image_corrupt", "import", layout.tar(tmp_path / "i.tar"), "--name=x:1")


def test_links_out_of_a_layout(images, tmp_path):
    """Blobs that are links to files of the host would become readable to a guest."""
    secret = layer({"secret": "host"})
    (tmp_path / "secret.tar").write_bytes(secret)
    archive = docker_archive([secret])
    path = f"{0:064x}/layer.tar"
    del archive.files[path]
    outward = {path: str(tmp_path / "secret.tar")}
    images.refused("image_corrupt", "import", archive.tar(tmp_path / "i.tar", links=outward))
    images.refused("image_corrupt", "import", archive.tar(tmp_path / "j.tar", links={path: "../../../../secret.tar"}))
    archive.write(tmp_path / "folder")
    (tmp_path / "folder" / f"{0:064x}").mkdir()
    os.symlink(tmp_path / "secret.tar", tmp_path / "folder" / path)
    images.refused("image_corrupt", "import", tmp_path / "folder")


@pytest.mark.parametrize("where", ["../../x/layer.tar", "/etc/passwd", "a/../../../b"])
def test_paths_out_of_a_docker_archive(images, tmp_path, where):
    archive = docker_archive([layer({"f": "x"})])
    archive.files["manifest.json"] = archive.files["manifest.json"].replace(f"{0:064x}/layer.tar".encode(), where.encode())
    images.refused("image_corrupt", "import", archive.tar(tmp_path / "i.tar"))


# ---- use, replacement, removal -------------------------------------------------------------------------------------------


def make(images, tmp_path, text):
    return images.ok("import", simple_layout({"f": text}).tar(tmp_path / "i.tar"), "--name=x:1")


def test_remove(images, tmp_path):
    images.refused("image_not_found", "remove", "x:1")
    make(images, tmp_path, "1")
    assert images.ok("list")["reference"] == "x:1"
    images.ok("remove", "x:1")
    images.refused("image_not_found", "remove", "x:1")
    assert images.leftovers() == []


def test_an_image_in_use_is_not_removed(images, tmp_path):
    make(images, tmp_path, "1")
    with held(images, "x:1"), held(images, "x:1"):
        images.refused("image_in_use", "remove", "x:1")
        assert (images.root("x:1") / "f").read_text() == "1"
    images.ok("remove", "x:1")


def test_an_image_in_use_is_replaced_beside_its_user(images, tmp_path):
    first = make(images, tmp_path, "1")
    with held(images, "x:1") as lines:
        assert lines[0] == first["digest"]
        second = make(images, tmp_path, "2")
        assert (images.root("x:1") / "f").read_text() == "2"
        old = [name for name in images.leftovers() if name.startswith(".old-")]
        assert len(old) == 1
        assert (images.images / old[0] / "rootfs" / "f").read_text() == "1"
        assert images.ok("list")["digest"] == second["digest"]
        assert old[0] in images.leftovers()
        images.ok("remove", "x:1")  # the new one is free
    images.ok("list")
    assert images.leftovers() == []


def test_a_free_image_is_replaced_without_a_trace(images, tmp_path):
    make(images, tmp_path, "1")
    make(images, tmp_path, "2")
    assert images.leftovers() == ["x%3A1"]


def test_what_a_crash_left_is_swept(images, tmp_path):
    make(images, tmp_path, "1")
    (images.images / ".work-1-2-3" / "rootfs" / "deep").mkdir(parents=True)
    (images.images / ".old-1-2-3").mkdir()
    (images.images / ".lock-x%3A1").write_text("")
    images.ok("list")
    assert images.leftovers() == ["x%3A1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"reference":"y:1"}',
        '{"reference":"x:1","digest":"sha256:1","source":"debian","created_at":"2020-01-01T00:00:00Z","size_bytes":1,"env":[]}',
        '{"reference":"x:1","digest":"sha256:%s","source":"magic","created_at":"2020-01-01T00:00:00Z","size_bytes":1,"env":[]}'
        % ("0" * 64),
        '{"reference":"x:1","digest":"sha256:%s","source":"debian","created_at":"yesterday","size_bytes":1,"env":[]}'
        % ("0" * 64),
        '{"reference":"x:1","digest":"sha256:%s","source":"debian","created_at":"2020-01-01T00:00:00Z","size_bytes":-1,"env":[]}'
        % ("0" * 64),
    ],
)
def test_a_damaged_image(images, tmp_path, text):
    make(images, tmp_path, "1")
    (images.images / "x%3A1" / "image.json").write_text(text)
    assert images.ok("list") is None
    done = subprocess.run([HOLD, images.state, "x:1"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1 and b"image_corrupt" in done.stderr
    images.ok("remove", "x:1")
    assert images.leftovers() == []


def test_folders_that_are_no_images_are_left_alone(images, tmp_path):
    make(images, tmp_path, "1")
    (images.images / "mine").mkdir()
    os.rename(images.images / "x%3A1", images.images / "moved")
    assert images.ok("list") is None
    assert images.leftovers() == ["mine", "moved"]


def test_kill_9_at_any_moment(images, tmp_path):
    """An import is whole or was not; the next command clears up."""
    archive = simple_layout({f"d{i}/f": "x" * 1000 for i in range(300)}).tar(tmp_path / "i.tar")
    whole = 0
    for i in range(20):
        command = [BUILD / "src" / "main" / "agent", "--state-dir", images.state, "image", "import", archive, "--name=x:1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(i * 0.004)
        process.send_signal(signal.SIGKILL)
        process.wait()
        listed = images.ok("list")
        if listed is not None:
            whole += 1
            assert len(list(images.root("x:1").glob("d*/f"))) == 300
            images.ok("remove", "x:1")
        # The helper dies with its parent, only not in the same instant.
        deadline = time.monotonic() + 5
        while images.leftovers() and time.monotonic() < deadline:
            images.ok("list")
        assert images.leftovers() == []
    assert digest(pathlib.Path(archive).read_bytes())  # the archive itself is still there
    print(f"{whole} of 20 were whole")


def test_a_full_disk(tmp_path):
    """Said as such, and nothing of the attempt is left to fill it further."""
    archive = simple_layout({"f": "x" * (3 << 20)}).tar(tmp_path / "i.tar")
    (tmp_path / "state").mkdir()
    agent = BUILD / "src" / "main" / "agent"
    script = (
        f"mount -t tmpfs -o size=2m none {tmp_path}/state && "
        f"{{ {agent} --state-dir {tmp_path}/state image import {archive}; ls -A {tmp_path}/state/images; }}"
    )
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert json.loads(done.stderr)["code"] == "disk_full", done.stderr
    assert done.stdout == ""
