#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_shell - shellcheck has nothing to say about the shell scripts.

Usage: check_shell.py [FILE…]
"""
import re

import lintlib

SHEBANG = re.compile(r"#!\s*/\S*\b(?:sh|bash|env bash)\b|# shellcheck shell=")


def scripts():
    """The files that say in their first line that they are one; generated and binary ones are none of ours."""
    return [path for path in lintlib.our_files("*", under=("script/", ".ci/", "tests/", "bench/", "examples/"))
            if SHEBANG.match(lintlib.read(path).partition("\n")[0])]


def check():
    paths = lintlib.arguments(scripts())
    if not paths:
        return
    done = lintlib.run(["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", "--format=gcc", *paths])
    yield from (line for line in done.stdout.splitlines() if line)
    if done.returncode not in (0, 1):
        raise lintlib.CannotLook(f"shellcheck: {done.stdout.strip()}")


if __name__ == "__main__":
    lintlib.main(check)
