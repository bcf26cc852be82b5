# SPDX-License-Identifier: Apache-2.0
"""Says at once why a test failed: of a machine that does not come to its end, the console is all that is left."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The whole report of a failure, as it stands in the summary."""
    if report.failed:
        print(f"\n==> {report.nodeid}, {report.when}:\n{report.longreprtext}", flush=True)
