# SPDX-License-Identifier: Apache-2.0
"""Makes images by hand: layers, OCI layouts, and archives as `docker save` writes them."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("AGENT_BUILD_DIR", ROOT / "build"))
AGENT = BUILD / "src" / "main" / "agent"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files):
    """A layer of plain files: {name: text}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def config(layers, **changes):
    value = {
        "os": "linux",
        "architecture": ARCHITECTURE,
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "config": {"Env": ["PATH=/usr/bin:/bin", "GREETING=hello"]},
    }
    value.update(changes)
    return json.dumps(value).encode()


class Layout:
    """An OCI layout in memory: {path: bytes}."""

    def __init__(self):
        self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, data, media_type, **fields):
        name = digest(data)
        self.files["blobs/sha256/" + name[7:]] = data
        return {"mediaType": media_type, "digest": name, "size": len(data), **fields}

    def image(self, layers, compress=True, **changes):
        """Adds an image; its descriptor."""
        packed = [gzip.compress(data, mtime=0) if compress else data for data in layers]
        suffix = "+gzip" if compress else ""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(changes.pop("config", None) or config(layers), CONFIG),
            "layers": [self.blob(data, LAYER + suffix) for data in packed],
        }
        manifest.update(changes)
        return self.blob(json.dumps(manifest).encode(), MANIFEST)

    def index(self, *descriptors):
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": list(descriptors)}).encode()
        return self

    def write(self, folder):
        for name, data in self.files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    def tar(self, path, links=None):
        with tarfile.open(path, "w") as tar:
            for name, data in self.files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for name, target in (links or {}).items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
        return path


def simple_layout(files, name="made/by-hand:1", **changes):
    layout = Layout()
    descriptor = layout.image([layer(files)], **changes)
    if name:
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    return layout.index(descriptor)


def docker_archive(layers, tag="made/by-docker:1"):
    """The older form of `docker save`: a folder for each layer."""
    archive = Layout()
    description = config(layers)
    name = digest(description)[7:] + ".json"
    archive.files = {name: description}
    paths = []
    for i, data in enumerate(layers):
        paths.append(f"{i:064x}/layer.tar")
        archive.files[paths[-1]] = data
    entry = {"Config": name, "RepoTags": [tag] if tag else None, "Layers": paths}
    archive.files["manifest.json"] = json.dumps([entry]).encode()
    return archive


class Images:
    """`agent image …` on a state directory of its own."""

    def __init__(self, state):
        self.state = pathlib.Path(state)
        self.images = self.state / "images"

    def call(self, *words, **options):
        return subprocess.run(
            [AGENT, "--state-dir", self.state, "image", *words], capture_output=True, text=True, check=False, **options
        )

    def ok(self, *words):
        done = self.call(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, code, *words):
        done = self.call(*words)
        assert done.returncode == (2 if code == "invalid_argument" else 1), (done.stdout, done.stderr)
        assert done.stdout == ""
        error = json.loads(done.stderr.splitlines()[-1])
        assert error["code"] == code, error
        # Nothing half-made stays, not even until the next command.
        assert not [name for name in self.leftovers() if name.startswith((".work-", ".old-", ".lock-"))]
        return error

    def vms(self):
        """The ids of the VMs."""
        words = [AGENT, "--state-dir", self.state, "vm", "list", "--all", "-q"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def leftovers(self):
        return sorted(os.listdir(self.images)) if self.images.is_dir() else []

    def root(self, reference):
        name = "".join(c if c.isalnum() or c in "._-" else f"%{ord(c):02X}" for c in reference)
        return self.images / name / "rootfs"
