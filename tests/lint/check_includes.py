#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_includes - the arrows between the modules point downward, and only where the design lets them.

Usage: check_includes.py [FILE…]

MODULES says what each folder of src/ may include besides itself, LIBRARIES which folder may include the headers of
which library. A header below a subfolder, or named `internal.h` or `*_internal.h`, is private to its module.
"""
import os
import re

import lintlib

# The public headers, include/era, may be included by everyone: the error object is one of them. This is the table of
# the design, and what was added to it since: `files`, and that the messages of `wire` carry the vocabulary of `vm`.
MODULES = {
    "base": [],
    "vm": ["base"],
    "wire": ["base", "vm"],
    "files": ["base", "wire"],
    "store": ["base", "vm"],
    "image": ["base"],
    "sandbox": ["base"],
    "launcher": ["base", "sandbox", "vm", "wire"],
    "guest": ["base", "files", "sandbox", "wire"],
    "shim": ["base", "launcher", "vm", "wire"],
    "service": ["base", "files", "image", "store", "vm", "wire"],
    # Two faces of libera: whatever they can do, a program that links it can do as well.
    "http": ["base"],
    "cli": ["base"],
    "main": ["base", "cli", "files", "guest", "http", "image", "launcher", "sandbox", "service", "shim", "store", "vm", "wire"],
}

# Who may include what of base: era-init is static and has libc alone, so that JSON stays out of it.
NEVER = {
    "guest": ["base/json.h"],
    "sandbox": ["base/json.h"],
    "wire": ["base/json.h"],
    "vm": ["base/json.h"],
    "files": ["base/json.h"],
}

LIBRARIES = {
    r"sqlite3\.h": ["store"],
    r"jansson\.h": ["base"],
    r"microhttpd\.h": ["http"],
    r"gnutls/.*": ["http"],
    r"wslay/.*": ["http"],
    r"seccomp\.h": ["launcher", "image"],  # of guests; of the program that unpacks hostile archives
    r"cap-ng\.h": ["launcher", "image"],
    r"sys/capability\.h": ["launcher", "image"],
    r"archive(_entry)?\.h": ["image"],
}

TESTING = re.compile(r"_(test|fuzz)\.c$|/test_[^/]*\.[ch]$|^tests/")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
PRIVATE = re.compile(r"(^|_)internal\.h$")


def module_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def resolve(path, name):
    """Where a quoted header lies: beside the file, in src, in include, or in tests; None: nowhere."""
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    for candidate in (beside, f"src/{name}", f"include/{name}", f"tests/{name}"):
        if (lintlib.ROOT / candidate).is_file():
            return candidate
    return None


def arrow(path, name):
    """What is wrong with the header `name` of ours in the file `path`, or None."""
    own = module_of(path)
    target = resolve(path, name)
    if target is None:
        # A generated header has no folder in its name and belongs to whoever includes it.
        return f'"{name}" is no file of ours' if "/" in name else None
    if target.startswith("include/"):
        return None
    theirs = module_of(target)
    if theirs == own:
        return None
    if target.startswith("tests/"):
        return None if TESTING.search(path) else f'"{name}" is for tests'
    if own is None:
        return None if TESTING.search(path) else f'"{name}": only what is below src/ may look into it'
    if own not in MODULES:
        return f"src/{own} is not in the table of check_includes.py"
    if theirs not in MODULES[own]:
        return f'{own} must not include "{name}"; it may use {", ".join(MODULES[own]) or "nothing of ours"}'
    if name in NEVER.get(own, []):
        return f'{own} must not include "{name}"'
    if PRIVATE.search(os.path.basename(target)) or target.count("/") > 2:
        return f'"{name}" is private to {theirs}'
    return None


def library(path, name):
    """What is wrong with the system's header `name`, or None."""
    if name.startswith("era/"):
        return None
    own = module_of(path)
    if name == "cmocka.h":
        return None if TESTING.search(path) else "cmocka belongs to tests"
    for pattern, users in LIBRARIES.items():
        # A test may use the library of its module to break things with.
        if own is not None and re.fullmatch(pattern, name) and own not in users:
            return f"{own} must not include <{name}>; only {', '.join(users)} may"
    return None


def check():
    unknown = [name for used in MODULES.values() for name in used if name not in MODULES]
    if unknown:
        raise lintlib.CannotLook(f"the table names modules that it does not have: {unknown}")
    for path in lintlib.arguments(lintlib.c_files()):
        text = lintlib.read(path)
        for match in INCLUDE.finditer(text):
            quoted, angled = match.groups()
            wrong = arrow(path, quoted) if quoted is not None else library(path, angled)
            if wrong is not None:
                yield f"{path}:{text.count(chr(10), 0, match.start(1 if quoted else 2)) + 1}: {wrong}"


if __name__ == "__main__":
    lintlib.main(check)
