#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_cppcheck - cppcheck over every C file of ours, less what cppcheck.suppressions names with its reason.

Usage: check_cppcheck.py [FILE…]

LINT_BUILD   the build folder that keeps what cppcheck remembers of unchanged files (build-lint)
LINT_JOBS    files at a time (2)
"""
import os
import re

import lintlib

BUILD = lintlib.ROOT / os.environ.get("LINT_BUILD", "build-lint")
SUPPRESSIONS = "tests/lint/cppcheck.suppressions"
LEAKS = re.compile(r"\[(?:memleak|resourceLeak|unreadVariable)\]$")
FINDING = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+): (?P<what>.*\[\w+\])$", re.MULTILINE)


def reasons_missing():
    """A comment stands directly above each suppression."""
    above = ""
    for number, line in enumerate(lintlib.read(SUPPRESSIONS).splitlines(), 1):
        if line.strip() and not line.startswith("#") and not (above.startswith("#") and "SPDX" not in above):
            yield f"{SUPPRESSIONS}:{number}: {line.strip()} is suppressed without a reason above it"
        above = line


def check():
    yield from reasons_missing()
    memory = BUILD / "cppcheck"
    memory.mkdir(parents=True, exist_ok=True)
    paths = lintlib.arguments(lintlib.c_files("*.c"))
    done = lintlib.run([
        "cppcheck", "--quiet", "--language=c", "--std=c11", "--platform=unix64", "--library=posix", "--library=gnu",
        "--enable=warning,style,performance,portability",
        f"-j{lintlib.JOBS}", f"--cppcheck-build-dir={memory}", f"--suppressions-list={SUPPRESSIONS}",
        "--template={file}:{line}: {severity}: {message} [{id}]", "--error-exitcode=1",
        "-Isrc", "-Iinclude", "-Itests", "-D_GNU_SOURCE", "-D__linux__", "-D__x86_64__", "-D__GNUC__=12", *paths])
    seen = set()
    for match in FINDING.finditer(done.stdout):
        if match.group(0) in seen:  # a header is seen by many
            continue
        seen.add(match.group(0))
        if not LEAKS.search(match["what"]) or not lintlib.cleaned_up(match["path"], match["line"]):
            yield match.group(0)
    if done.returncode != 0 and not seen:
        raise lintlib.CannotLook(f"cppcheck: {done.stdout.strip()[-2000:]}")


if __name__ == "__main__":
    lintlib.main(check)
