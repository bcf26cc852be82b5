# SPDX-License-Identifier: Apache-2.0
"""Makes a skipped test a failure where everything should have run.

On a developer's machine a test may say why it cannot run there. With CI set,
all that it could want is installed, so a skip means that something is broken.
"""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turns a green session with skips into a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if os.environ.get("CI") and skipped and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} skipped, and CI lets none be skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
