# SPDX-License-Identifier: Apache-2.0
"""The fault hook itself: its table is right, and a release has nothing of it."""

from __future__ import annotations

import json
import pathlib
import subprocess

import pytest

from tests.conftest import BUILD, Agent
from tests.crash import points

PROGRAMS = ("agent", "era-shim", "era-init", "era-unpack")


def test_each_point_of_the_table_stands_at_one_place() -> None:
    """And each place in the source is in the table."""
    assert {name: len(places) for name, places in points.marked().items()} == dict.fromkeys(points.table(), 1)


def test_a_point_that_does_not_exist_is_refused(fresh_state: Agent) -> None:
    """A test with a slip of the pen would otherwise test nothing."""
    for plan in ("no.such.point=kill", "create.recorded=no_such_action", "create.recorded"):
        done = fresh_state.run("vm", "create", "--language", "python", env={"ERA_FAULT": plan})
        assert done.code == 99 and plan.encode() in done.stderr


def options_of(folder: pathlib.Path) -> dict[str, object]:
    """How a build folder is configured."""
    words = ["meson", "introspect", "--buildoptions", str(folder)]
    return {option["name"]: option["value"] for option in json.loads(subprocess.check_output(words))}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A build without the hook, brought up to date; made when there is none."""
    for name in ("build", "build-clang"):
        folder = points.ROOT / name
        if (folder / "build.ninja").exists():
            subprocess.run(["ninja", "-C", folder, "-j2", "--quiet", "programs"], check=True, stdout=subprocess.DEVNULL)
            if not options_of(folder)["fault_injection"]:
                return folder
    folder = tmp_path_factory.mktemp("release")
    words = ["meson", "setup", folder, points.ROOT, "--buildtype=release", "-Dtests=disabled"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, "-j2", "--quiet", "programs"], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_release_holds_no_trace_of_the_hook(release: pathlib.Path, program: str) -> None:
    """Neither the variable's name nor a point's; and where the hook is, this look does find it."""
    traces = [b"ERA_FAULT", b"era-fault", *(f"{name}\0".encode() for name in points.table())]
    built = (release / "src" / "main" / program).read_bytes()
    assert [trace for trace in traces if trace in built] == []
    tested = (BUILD / "src" / "main" / program).read_bytes()
    assert [trace for trace in traces if trace not in tested] == []
