# SPDX-License-Identifier: Apache-2.0
"""docs/attacks.md lists what is tried: each row names tests that there are, and each test here has a row."""

from __future__ import annotations

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / "docs" / "attacks.md"
NAME = re.compile(r"`((?:[a-z_]+/)?test_\w+\.py)::(test_\w+)`")

# Tests of limits have a list of their own, and this file attacks nothing.
ELSEWHERE = re.compile(r"test_limits_.*|test_attack_table\.py")


def attacks_of(path: pathlib.Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def rows() -> list[list[str]]:
    """The cells of each row of the tables that are about attacks."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ") and "::" in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_each_row_names_tests_that_there_are() -> None:
    """A row says the attack, what stops it, and who tries it."""
    assert len(rows()) > 50
    for row in rows():
        assert len(row) == 3 and all(row), row
        named = NAME.findall(row[2])
        assert named, f"no test in: {row}"
        for file, test in named:
            path = ROOT / "tests" / ("security" if "/" not in file else "") / file
            assert path.is_file() and test in attacks_of(path), f"{file}::{test} is not there"


def test_each_attack_has_a_row() -> None:
    """A test that is not in the table is not found by who looks for the list of attacks."""
    listed = {pair for row in rows() for pair in NAME.findall(row[2])}
    for path in pathlib.Path(__file__).parent.glob("test_*.py"):
        if not ELSEWHERE.fullmatch(path.name):
            missing = {test for test in attacks_of(path) if (path.name, test) not in listed}
            assert not missing, f"{path.name}: no row in docs/attacks.md for {sorted(missing)}"
