# SPDX-License-Identifier: Apache-2.0
"""A state directory for each module, and the inspector of what it has on the host."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, link_images
from tests.crash.host import Host


@pytest.fixture(scope="module")
def host(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Its images are hard links."""
    state: pathlib.Path = tmp_path_factory.mktemp("crash") / "state"
    state.mkdir(mode=0o700)
    link_images(state)
    host = Host(Agent(state))
    yield host
    host.kill_others(0)
    host.agent.run("vm", "clean", "--all", timeout=120)
