#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_format - the C code is as .clang-format has it; `make fmt` makes it so.

Usage: check_format.py [FILE…]
"""
import re

import lintlib

FINDING = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: (?:error|warning): ", re.MULTILINE)


def check():
    paths = lintlib.arguments(lintlib.c_files())
    done = lintlib.run(["clang-format", "--dry-run", "-Werror", "--style=file", *paths])
    seen = set()
    for match in FINDING.finditer(done.stdout):
        place = (match["path"], match["line"])
        if place not in seen:
            seen.add(place)
            yield f"{match['path']}:{match['line']}: not formatted; run `make fmt`"
    if done.returncode != 0 and not seen:
        raise lintlib.CannotLook(f"clang-format: {done.stdout.strip()}")


if __name__ == "__main__":
    lintlib.main(check)
