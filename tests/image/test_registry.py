# SPDX-License-Identifier: Apache-2.0
"""`agent image pull` against a registry of our own, on loopback and without TLS."""

import shutil
import socket
import subprocess
import time

import pytest

from tests.image.ocilib import AGENT, Images, Layout, layer, simple_layout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    for tool in ("docker-registry", "skopeo"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", folder / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def push(registry, tmp_path):
    def push(layout, name):
        layout.write(tmp_path / "push")
        command = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{tmp_path}/push"]
        subprocess.run([*command, f"docker://{registry}/{name}"], check=True, capture_output=True)
        shutil.rmtree(tmp_path / "push")
        return f"{registry}/{name}"

    return push


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "state")


def test_pull(images, push):
    reference = push(simple_layout({"f": "one"}, name=None), "team/thing:1")
    made = images.ok("pull", reference)
    assert (made["reference"], made["source"]) == (reference, "registry")
    assert (images.root(reference) / "f").read_text() == "one"
    # By digest it is the same.
    by_digest = f"{reference.rsplit(':', 1)[0]}@{made['digest']}"
    assert images.ok("pull", by_digest)["digest"] == made["digest"]
    assert images.leftovers() == sorted(str(images.root(name).parent.name) for name in (reference, by_digest))


def test_pull_by_the_name_localhost(images, push):
    reference = push(simple_layout({"f": "one"}, name=None), "local:1").replace("127.0.0.1", "localhost")
    images.ok("pull", reference)


def test_several_layers(images, push):
    layout = Layout()
    layout.index(layout.image([layer({"a": "1", "b": "1"}), layer({".wh.a": "", "b": "2"}), layer({"c": "3"})]))
    reference = push(layout, "layers:1")
    images.ok("pull", reference)
    assert {path.name: path.read_text() for path in images.root(reference).iterdir()} == {"b": "2", "c": "3"}


def test_pull_again_takes_what_is_new(images, push):
    reference = push(simple_layout({"f": "one"}, name=None), "moving:1")
    first = images.ok("pull", reference)
    push(simple_layout({"f": "two"}, name=None), "moving:1")
    second = images.ok("pull", reference)
    assert first["digest"] != second["digest"]
    assert (images.root(reference) / "f").read_text() == "two"


def test_what_is_not_there(images, registry):
    error = images.refused("image_pull_failed", "pull", f"{registry}/nothing:1")
    assert "skopeo" in error["message"] and "manifest" in error["message"]
    assert "level=fatal" not in error["message"]
    images.refused("image_pull_failed", "pull", f"127.0.0.1:{free_port()}/closed:1")


@pytest.mark.parametrize("reference", ["", "-x", "a b", "../x", "http://x/y", "oci:/etc", "/x"])
def test_references_that_are_none(images, reference):
    done = images.call("pull", "--", reference)
    assert done.returncode in (1, 2)
    assert images.leftovers() == []


def test_two_at_once_end_with_one_result(images, push):
    reference = push(simple_layout({f"d{i}/f": "x" * 500 for i in range(500)}, name=None), "busy:1")
    command = [AGENT, "--state-dir", images.state, "image", "pull", reference]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0, 0]
    assert len(outputs) == 1  # created_at too: whoever waited took the first's
    assert len(list(images.root(reference).glob("d*/f"))) == 500
    assert images.leftovers() == [images.root(reference).parent.name]


def test_the_environment_does_not_leak(images, push, monkeypatch):
    """A policy or credentials of the caller hold, anything else does not reach the tool."""
    monkeypatch.setenv("SKOPEO_CONFIG", "/nonexistent")
    monkeypatch.setenv("LD_PRELOAD", "")
    images.ok("pull", push(simple_layout({"f": "x"}, name=None), "env:1"))
