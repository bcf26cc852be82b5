# SPDX-License-Identifier: Apache-2.0
"""The marked points: the table of src/base/fault.c, and where each stands."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def table() -> list[str]:
    """All names, in the table's order."""
    text = (ROOT / "src" / "base" / "fault.c").read_text()
    return re.findall(r'"([a-z.]+)"', text.split("points[] = {")[1].split("};")[0])


def marked() -> dict[str, list[str]]:
    """Where the source has each point."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.c")):
        for name in re.findall(r'ERA_POINT(?:_OR)?\("([^"]*)"', path.read_text()):
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def failing() -> set[str]:
    """Those that stand around a call, and can have it fail."""
    return {name for path in (ROOT / "src").rglob("*.c") for name in re.findall(r'ERA_POINT_OR\("([^"]*)"', path.read_text())}


def steps(launcher: str, name: str) -> int:
    """How many steps a launcher's child takes: its point `step` is passed as often."""
    text = (ROOT / "src" / "launcher" / launcher / f"{name}.c").read_text()
    return len(re.findall(r'^    \{"', text.split("} steps[] = {")[1].split("};")[0], re.M))
