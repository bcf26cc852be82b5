#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_tidy - clang-tidy, by the checks of .clang-tidy, over every C file of ours.

Usage: check_tidy.py [FILE…]

LINT_BUILD   the build folder whose compile database is used; made when absent (build-lint)
LINT_JOBS    files at a time (2)

Only a file that changed since it was last found clean is looked at again: the build folder keeps a mark for each, named
by a hash of the file, of all headers of ours, of .clang-tidy, of the tool's version and of the flags.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex

import lintlib

BUILD = lintlib.ROOT / os.environ.get("LINT_BUILD", "build-lint")
FINDING = re.compile(r"^(?P<path>/[^:\n]+):(?P<line>\d+):\d+: (?:error|warning): (?P<what>.*)$", re.MULTILINE)
LEAKS = re.compile(r"\[clang-analyzer-(?:unix\.Malloc|deadcode\.DeadStores)")
TOOL_FAILED = re.compile(r"^error: .*|^Error (?:while|parsing) .*", re.MULTILINE)


def must(command, **options):
    done = lintlib.run(command, **options)
    if done.returncode != 0:
        raise lintlib.CannotLook(f"{' '.join(command)}:\n{done.stdout[-2000:]}")
    return done.stdout


def prepare_build():
    """Configures, and makes the headers that are generated; nothing else is compiled."""
    if not (BUILD / "build.ninja").is_file():
        must(["meson", "setup", str(BUILD)], env={**os.environ, "CC": "clang"})
    else:
        must(["ninja", "-C", str(BUILD), "build.ninja"])
    targets = json.loads(must(["meson", "introspect", "--targets", str(BUILD)]))
    headers = [os.path.relpath(name, BUILD) for target in targets if target["type"] == "custom"
               for name in target["filename"] if name.endswith(".h")]
    if headers:
        must(["ninja", "-C", str(BUILD), "-j", str(lintlib.JOBS), *headers])


def load_flags():
    """The flags for each path of ours, and those for a file that the database lacks (era-init: musl compiles it)."""
    flags_of = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        words = shlex.split(entry["command"])[1:]
        kept = []
        while words:
            word = words.pop(0)
            if word in ("-o", "-c", "-MF", "-MQ"):
                words.pop(0)
            elif word.startswith("-I"):
                kept.append("-I" + os.path.normpath(os.path.join(entry["directory"], word[2:])))
            elif word not in ("-MD", "-fcolor-diagnostics", "-fdiagnostics-color=always", entry["file"]):
                kept.append(word)
        flags_of[os.path.relpath(path, lintlib.ROOT)] = kept
    if not flags_of:
        raise lintlib.CannotLook(f"{BUILD} compiles nothing")
    root = lintlib.ROOT
    other = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wvla", f"-I{root}/src",
             f"-I{root}/include", f"-I{root}/tests"]
    return flags_of, other


def reasons_missing():
    """Each check that .clang-tidy disables has a comment `# name: why` in it."""
    text = lintlib.read(".clang-tidy")
    for name in re.findall(r"^\s*-([\w.*-]+?),?$", text, re.MULTILINE):
        if name != "*" and not re.search(rf"^# {re.escape(name)}: \S", text, re.MULTILINE):
            yield f".clang-tidy:1: {name} is disabled without a reason (`# {name}: why`)"


class Marks:
    """Which inputs were found clean before."""

    def __init__(self):
        self.folder = BUILD / "tidy-clean"
        self.folder.mkdir(exist_ok=True)
        self.common = hashlib.sha256(must(["clang-tidy", "--version"]).encode())
        self.common.update(lintlib.read(".clang-tidy").encode())
        for path in lintlib.c_files("*.h"):
            self.common.update(f"{path}\0{lintlib.read(path)}\0".encode())

    def mark_of(self, path, flags):
        digest = self.common.copy()
        digest.update(f"{path}\0{flags}\0{lintlib.read(path)}".encode())
        return self.folder / digest.hexdigest()

    def forget_others(self, current):
        for mark in self.folder.iterdir():
            if mark not in current:
                mark.unlink()


def look(path, flags):
    """The findings in one file."""
    done = lintlib.run(["clang-tidy", "--quiet", "--warnings-as-errors=*", path, "--", *flags])
    findings = []
    excused = False
    for match in FINDING.finditer(done.stdout):
        where = os.path.relpath(match["path"], lintlib.ROOT)
        if where.startswith(".."):
            continue
        if LEAKS.search(match["what"]) and lintlib.cleaned_up(where, match["line"]):
            excused = True
        else:
            what = match["what"].replace(",-warnings-as-errors]", "]")
            findings.append(f"{where}:{match['line']}: {what}")
    if done.returncode != 0 and not findings and not excused:
        failed = TOOL_FAILED.search(done.stdout)
        findings.append(f"{path}:1: clang-tidy failed: {failed.group(0) if failed else done.stdout.strip()[-300:]}")
    return findings


def check():
    yield from reasons_missing()
    prepare_build()
    flags_of, other = load_flags()
    marks = Marks()
    wanted = lintlib.arguments(lintlib.c_files("*.c"))
    todo = {path: flags_of.get(path, other) for path in wanted}
    current = {path: marks.mark_of(path, flags) for path, flags in todo.items()}
    stale = [path for path in wanted if not current[path].exists()]
    seen = set()
    with concurrent.futures.ThreadPoolExecutor(lintlib.JOBS) as pool:
        for path, findings in zip(stale, pool.map(lambda path: look(path, todo[path]), stale)):
            if not findings:
                current[path].touch()
            for finding in findings:
                if finding not in seen:  # the same line of a header
                    seen.add(finding)
                    yield finding
    if wanted == lintlib.c_files("*.c"):
        marks.forget_others(set(current.values()))


if __name__ == "__main__":
    lintlib.main(check)
