# SPDX-License-Identifier: Apache-2.0
"""CPython's own tests pass in a VM exactly as outside, but for what docs/compatibility.md says and explains."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.compat.cpython import SUITE, known_differences, run_inside, run_outside
from tests.conftest import Agent

QUICK = ["test_os", "test_posix", "test_tempfile", "test_threading", "test_tarfile", "test_zipfile"]
LONG = [
    "test_asyncio",
    "test_multiprocessing_fork",
    "test_multiprocessing_forkserver",
    "test_multiprocessing_spawn",
    "test_signal",
    "test_socket",
    "test_ssl",
    "test_subprocess",
    "test_venv",
]
MODULES = [*QUICK, *LONG] if os.environ.get("AGENT_TEST_ALL") else QUICK


@pytest.fixture(scope="module")
def suite_vm(agent: Agent) -> Iterator[str]:
    """A VM with room for the suite, which is copied in."""
    assert SUITE.is_dir(), "libpython3.11-testsuite is not installed: script/setup --test"
    created = agent.create("--mem", "2048", "--cpu", "2", "--pids", "2048")
    agent.sh(created, f"rm -rf {SUITE}")  # the image holds a few files of it
    agent.run("vm", "cp", str(SUITE), f"{created}:{SUITE}", check=True)
    yield created
    agent.clean(created)


@pytest.mark.skipif(os.geteuid() != 0, reason="the chroot that a VM is compared with needs root")
@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_cpython(agent: Agent, suite_vm: str, tmp_path: pathlib.Path, module: str) -> None:
    """Side by side; what differs is tried again, for some tests are not the same twice anywhere."""
    rootfs = agent.state / "images" / "agent%2Fpython%3A3.11" / "rootfs"
    names: set[str] = set()
    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            outside = pool.submit(run_outside, rootfs, tmp_path, module, names)
            inside = run_inside(agent, suite_vm, module, names)
        both = {name: (inside.get(name), outside.result().get(name)) for name in {*inside, *outside.result()}}
        assert names or len(both) > 20
        found = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
        known = {name: pair for name, pair in known_differences().items() if name.split(".")[1] == module}
        if found == known:
            return
        names = {*found, *known}
    assert found == known
