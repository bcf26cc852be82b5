# SPDX-License-Identifier: Apache-2.0
"""The tests of this folder want the machine that `script/test --vm` boots, and run nowhere else."""

from __future__ import annotations

import os
import pwd

collect_ignore_glob: list[str] = []
if not os.environ.get("AGENT_TEST_MACHINE") or pwd.getpwuid(os.geteuid()).pw_name != "root":
    collect_ignore_glob = ["test_*.py"]
