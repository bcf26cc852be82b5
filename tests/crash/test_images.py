# SPDX-License-Identifier: Apache-2.0
"""The points of images whose way is a long one: a registry, and a whole build."""

from __future__ import annotations

import os
import signal

from tests.crash.host import Host
from tests.image.ocilib import simple_layout
from tests.image.test_registry import push, registry  # noqa: F401  fixtures


def test_a_pull_that_is_killed_leaves_nothing(host: Host, push) -> None:  # noqa: F811
    """Fetched, and not yet unpacked; the next pull has it all to do again, and does it."""
    reference = push(simple_layout({"etc/motd": "hello"}), "made/there:1")
    assert host.agent.run("image", "pull", reference, env={"ERA_FAULT": "pull.fetched=kill"}).code == -signal.SIGKILL
    host.check()
    assert host.agent.run("image", "pull", reference, check=True).json()["reference"] == reference
    host.agent.run("image", "remove", reference, check=True)
    host.check()


if "AGENT_CRASH_SECONDS" in os.environ:  # a minute or more: for script/test --all; tests/image kills builds earlier

    def test_a_build_that_is_killed_leaves_nothing(host: Host) -> None:
        """The root is made, and not yet finished; the image that it would replace is as it was."""
        words = ("image", "build", "python", "--rebuild")
        assert host.agent.run(*words, env={"ERA_FAULT": "build.root=kill"}, timeout=900).code == -signal.SIGKILL
        host.check()
        host.works()
