#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_style - what no compiler says: lengths, banned functions, licence lines, paths of some machine.

Usage: check_style.py [FILE…]

A file from 400 lines on is warned of on stderr; what is in EXCEPTIONS is allowed, each for the reason given there.
That there are no arrays of variable length is -Wvla's to find (meson.build, and check_tidy.py): here is only looked
that it is still asked for.
"""
import re
import sys

import lintlib

FILE_WARN, FILE_MAX = 400, 450
FUNCTION_MAX = 80

# name: (pattern over code without comments and literals, what to do instead)
BANNED = {
    "system": (r"\b(?:system|popen)\s*\(", "start programs by argument vectors (base/process.h)"),
    "strtol": (r"\b(?:strto(?:u?ll?|[iu]max|[df]|ld)|ato(?:i|ll?|f)|sscanf)\s*\(", "era_parse_u64() (base/str.h)"),
    "alloca": (r"\b(?:alloca|strdupa|strndupa)\s*\(", "a bounded buffer, or the heap"),
    "typedef": (r"\btypedef\s+(?:struct|union)\b", "say `struct era_x` where it is used"),
    "sleep": (r"\b(?:u|nano|clock_nano)?sleep\s*\(", "wait for the event itself: poll, a lock, a timer"),
    "string": (r"\b(?:strcpy|strcat|sprintf|vsprintf|gets)\s*\(", "era_str_copy(), era_str_format() (base/str.h)"),
}

# (path, name of the rule): why
EXCEPTIONS = {}

LICENCE = "SPDX-License-Identifier: Apache-2.0"

# In two pieces each, so that this file does not find itself.
MACHINE_PATHS = re.compile("|".join([r"(?<![\w.~-])/wo" r"rk/", r"/root/\.py" r"env", r"/home/(?!user/|agent/|\$)\w+/"]))


def lengths(path, text):
    lines = text.count("\n")
    if lines > FILE_MAX:
        yield f"{path}:{lines}: a file of {lines} lines; {FILE_WARN} are the aim, {FILE_MAX} the end"
    elif lines >= FILE_WARN:
        print(f"{path}:{lines}: warning: a file of {lines} lines", file=sys.stderr)
    # By .clang-format the braces of a function, and no others, stand alone at the start of a line.
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start - 1 > FUNCTION_MAX:
                yield f"{path}:{start}: a function of {number - start - 1} lines; {FUNCTION_MAX} are the end"
            start = None


def banned(path, text):
    code = lintlib.code_only(text)
    for name, (pattern, instead) in BANNED.items():
        if (path, name) in EXCEPTIONS:
            continue
        for match in re.finditer(pattern, code):
            line = code.count("\n", 0, match.start()) + 1
            yield f"{path}:{line}: {match.group(0).strip('( ')} is banned: {instead}"


def licence(path, text):
    head = text.split("\n", 3)[:3]
    script = head[0].startswith("#!")
    if not (script or path.endswith((".c", ".h", ".py", ".sh"))) or not text:
        return
    if not any(LICENCE in line for line in head[:2]):
        yield f"{path}:1: no line with {LICENCE} at the top"


def machine_paths(path, text):
    for match in MACHINE_PATHS.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield f"{path}:{line}: a path of somebody's machine: {match.group(0)}"


def check():
    if "'-Wvla'" not in lintlib.read("meson.build"):
        yield "meson.build:1: -Wvla is gone, and with it the ban on arrays of variable length"
    for path, name in EXCEPTIONS:
        if name not in BANNED or not (lintlib.ROOT / path).is_file():
            yield f"tests/lint/check_style.py:1: an exception for nothing: {path}, {name}"
    for path in lintlib.arguments(lintlib.our_files("*")):
        if path.startswith("tests/corpus/"):
            continue
        text = lintlib.read(path)
        if path.endswith((".c", ".h")):
            yield from lengths(path, text)
            yield from banned(path, text)
        yield from licence(path, text)
        yield from machine_paths(path, text)


if __name__ == "__main__":
    lintlib.main(check)
