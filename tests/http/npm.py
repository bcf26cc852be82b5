# SPDX-License-Identifier: Apache-2.0
"""Programs of npm that judge the server from outside, in versions that do not change, kept in .cache."""

from __future__ import annotations

import fcntl
import pathlib
import subprocess

from tests.conftest import ROOT


def install(*packages: str) -> pathlib.Path:
    """The folder in whose node_modules the packages ("name@version") are."""
    folder = ROOT / ".cache" / "npm-http" / "+".join(packages).replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            (folder / "package.json").write_text('{"private":true}\n')  # else npm looks for one further up
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *packages],
                           cwd=folder, check=True, stdin=subprocess.DEVNULL, timeout=300)
            (folder / "done").touch()
    return folder
