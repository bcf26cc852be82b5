# SPDX-License-Identifier: Apache-2.0
"""The static checks as tests, and tests of the checks: one that finds nothing may have stopped looking.

Run: /usr/bin/python3 -m pytest tests/lint
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def run_check(name, root=ROOT):
    environment = {**os.environ, "LINT_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, str(HERE / f"check_{name}.py")], env=environment, text=True,
                          capture_output=True, check=False)


def skip_or_fail(done):
    """A tool that is missing skips the test, but not where everything has to be there."""
    if done.returncode == 77:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip())


@pytest.mark.parametrize("name", ["includes", "style", "format", "shell", "cppcheck", "tidy"])
def test_tree_is_clean(name):
    done = run_check(name)
    skip_or_fail(done)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


# name of the check, file, its text, what is to be found in it
PLANTED = [
    ("includes", "src/base/x.c", '#include "store/store.h"\n', 'base must not include "store/store.h"'),
    ("includes", "src/cli/x.c", '#include "service/service.h"\n', 'cli must not include "service/service.h"'),
    ("includes", "src/http/x.c", '#include "vm/vm.h"\n', 'http must not include "vm/vm.h"'),
    ("includes", "src/guest/x.c", '#  include "base/json.h"\n', 'guest must not include "base/json.h"'),
    ("includes", "src/shim/x.c", "#include <sqlite3.h>\n", "shim must not include <sqlite3.h>"),
    ("includes", "src/shim/x.c", "#include <microhttpd.h>\n", "shim must not include <microhttpd.h>"),
    ("includes", "src/service/x.c", '#include "store/store_internal.h"\n', "private to store"),
    ("includes", "src/shim/x.c", '#include "launcher/namespace/x.h"\n', "private to launcher"),
    ("includes", "src/vm/x.c", '#include "vm/gone.h"\n', "no file of ours"),
    ("includes", "src/vm/x.c", "#include <cmocka.h>\n", "cmocka belongs to tests"),
    ("includes", "src/new/x.c", '#include "base/json.h"\n', "not in the table"),
    ("style", "src/vm/x.c", "int f(void)\n{\n" + "    g();\n" * 81 + "}\n", "a function of 81 lines"),
    ("style", "src/vm/x.c", "int x;\n" * 451, "a file of 452 lines"),
    ("style", "src/vm/x.c", "int r = system (command);\n", "system is banned"),
    ("style", "src/vm/x.c", "long v = strtol(text, NULL, 10);\n", "strtol is banned"),
    ("style", "src/vm/x.c", "char *p = alloca(n);\n", "alloca is banned"),
    ("style", "src/vm/x.c", "typedef struct {\n    int x;\n} x_t;\n", "typedef struct is banned"),
    ("style", "src/vm/x.c", "sleep(1);\n", "sleep is banned"),
    ("style", "src/vm/x.c", "usleep(1);\n", "usleep is banned"),
    ("style", "docs/x.md", "see /wo" + "rk/main\n", "a path of somebody's machine"),
    ("format", "src/vm/x.c", "int  f( void ) { return 1; }\n", "not formatted"),
    ("shell", "script/x", "#!/bin/sh\ncd $1\n", "[SC2086]"),
    ("cppcheck", "src/vm/x.c", "int f(void)\n{\n    int a[2] = {0};\n    return a[2];\n}\n", "arrayIndexOutOfBounds"),
]


def plant(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


@pytest.fixture(name="small_tree")
def make_small_tree(tmp_path):
    """A tree in which nothing is wrong."""
    plant(tmp_path, ".clang-format", (ROOT / ".clang-format").read_text(encoding="utf-8"))
    plant(tmp_path, "meson.build", "'-Wvla'\n")
    suppressions = "tests/lint/cppcheck.suppressions"
    plant(tmp_path, suppressions, (ROOT / suppressions).read_text(encoding="utf-8"))
    for header in ("base/json.h", "vm/vm.h", "store/store.h", "store/store_internal.h", "service/service.h",
                   "launcher/namespace/x.h"):
        plant(tmp_path, f"src/{header}", SPDX)
    plant(tmp_path, "src/store/good.c", SPDX + "/* system(), sleep() */\n#include <sqlite3.h>\n\n"
          '#include "store/store_internal.h"\n#include "vm/vm.h"\n\nconst char *text = "strtol(";\n')
    return tmp_path


@pytest.mark.parametrize("name", ["includes", "style", "format", "shell", "cppcheck"])
def test_nothing_is_found_where_nothing_is_wrong(small_tree, name):
    done = run_check(name, small_tree)
    skip_or_fail(done)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name,path,text,finding", PLANTED)
def test_what_was_planted_is_found(small_tree, name, path, text, finding):
    plant(small_tree, path, SPDX + text if path.endswith(".c") else text)
    done = run_check(name, small_tree)
    skip_or_fail(done)
    assert done.returncode == 1, done.stderr
    assert finding in done.stdout
    assert all(line.startswith(f"{path}:") for line in done.stdout.splitlines())


def test_a_file_without_a_licence_is_found(small_tree):
    plant(small_tree, "src/vm/x.c", "int x;\n")
    plant(small_tree, "script/x", "#!/bin/sh\ntrue\n")
    done = run_check("style", small_tree)
    assert done.returncode == 1
    assert "src/vm/x.c:1: no line with" in done.stdout
    assert "script/x:1: no line with" in done.stdout


def test_a_suppression_needs_its_reason(small_tree):
    plant(small_tree, "tests/lint/cppcheck.suppressions", "# SPDX-License-Identifier: Apache-2.0\nmemleak\n")
    done = run_check("cppcheck", small_tree)
    skip_or_fail(done)
    assert "memleak is suppressed without a reason" in done.stdout


TIDY_TREE = """project('x', 'c')
# '-Wvla'
executable('x', 'src/vm/x.c', c_args: '-D_GNU_SOURCE', include_directories: 'src')
"""

# The first leaks and the second does not: what is freed by an attribute is no leak.
TIDY_CODE = """#include <errno.h>
#include <stdlib.h>
#include <string.h>

int leak(const char *text);
int leak(const char *text)
{
    char *copy = strdup(text);
    return copy == NULL ? -ENOMEM : copy[0];
}

#define _cleanup_free_ __attribute__((cleanup(freep)))
static void freep(char **pointer)
{
    free(*pointer);
}

int keep(const char *text);
int keep(const char *text)
{
    _cleanup_free_ char *copy = strdup(text);
    return copy == NULL ? -ENOMEM : copy[0];
}

int main(void)
{
    return leak("a") + keep("b") + (int)strtoul("1", NULL, 10);
}
"""


def test_tidy_finds_a_leak_and_excuses_what_is_cleaned_up(small_tree):
    config = (ROOT / ".clang-tidy").read_text(encoding="utf-8")
    plant(small_tree, ".clang-tidy", config)
    plant(small_tree, "meson.build", TIDY_TREE)
    plant(small_tree, "src/vm/x.c", SPDX + TIDY_CODE)
    done = run_check("tidy", small_tree)
    skip_or_fail(done)
    assert "src/vm/x.c:10: Potential leak" in done.stdout, done.stderr
    assert done.stdout.count("leak") == 1

    plant(small_tree, ".clang-tidy", config.replace("  -misc-unused-parameters,", "  -cert-env33-c,"))
    assert "cert-env33-c is disabled without a reason" in run_check("tidy", small_tree).stdout
