# SPDX-License-Identifier: Apache-2.0
"""lintlib - what the checks of this folder share: which files are ours, and how findings are told.

A check is a script that prints one finding a line, `path:line: what`, and exits with 1 when there is any, with 2 when
it could not look, with 77 when its tool is not installed. Each takes the files to look at as arguments; without any it
looks at the whole tree.
"""
import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

# Another root is what the tests of these checks look at.
ROOT = Path(os.environ.get("LINT_ROOT", Path(__file__).resolve().parents[2]))
JOBS = int(os.environ.get("LINT_JOBS", "2"))


class CannotLook(Exception):
    """The check itself could not be done; nothing is known of the files."""
    status = 2


class ToolMissing(CannotLook):
    """Its program is not installed."""
    status = 77


def _from_git():
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout.decode().split("\0")[:-1] if done.returncode == 0 else None


def _from_walk():
    """In an unpacked release there is no git: all but what a build leaves."""
    for folder, subfolders, names in os.walk(ROOT):
        top = Path(folder) == ROOT
        subfolders[:] = [s for s in subfolders if s != "__pycache__" and not (top and re.match(r"build|\.git$", s))]
        for name in names:
            yield str((Path(folder) / name).relative_to(ROOT))


def our_files(*patterns, under=("",)):
    """The paths below ROOT, sorted, whose name matches a pattern and that lie in one of the folders."""
    try:
        listed = _from_git()
    except FileNotFoundError:
        listed = None
    listed = listed if listed is not None else _from_walk()
    chosen = sorted(set(
        path for path in listed
        if path.startswith(tuple(under)) and any(fnmatch.fnmatch(os.path.basename(path), p) for p in patterns)))
    return [path for path in chosen if (ROOT / path).is_file() and not (ROOT / path).is_symlink()]


def c_files(*patterns):
    return our_files(*(patterns or ("*.c", "*.h")), under=("src/", "include/", "tests/", "bench/", "examples/"))


def arguments(default):
    """The files named on the command line, as paths below ROOT, or the default."""
    if len(sys.argv) == 1:
        return default
    return [str(Path(argument).resolve().relative_to(ROOT)) for argument in sys.argv[1:]]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def code_only(text):
    """C without its comments and with empty literals, the lines where they were."""
    def blank(match):
        kept = match.group(0)
        quote = kept[0] if kept[0] in "\"'" else ""
        return quote + "\n" * kept.count("\n") + quote
    return _NOT_CODE.sub(blank, text)


def cleaned_up(path, line):
    """Whether a `_cleanup_x_` variable lives in the function around that line.

    Neither tool knows the attribute: what it frees is a leak to them, and what was handed over is never read. Their
    findings of that kind count only where no such variable is.
    """
    lines = read(path).splitlines()[:int(line)]
    start = max((number for number, text in enumerate(lines) if text == "{"), default=0)
    return any("_cleanup_" in text for text in lines[start:])


def run(command, **options):
    """Runs a tool from the root; one that is missing is told as such."""
    try:
        return subprocess.run(command, cwd=ROOT, text=True, errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, **options)
    except FileNotFoundError as error:
        raise ToolMissing(f"{command[0]} is not installed") from error


def main(check):
    """Runs check(), which yields findings, and exits as the checks of this folder do."""
    found = 0
    try:
        for finding in check():
            print(finding)
            found += 1
    except CannotLook as error:
        print(f"cannot check: {error}", file=sys.stderr)
        sys.exit(error.status)
    if found:
        print(f"{found} finding{'s' if found > 1 else ''}", file=sys.stderr)
    sys.exit(1 if found else 0)
