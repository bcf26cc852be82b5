# SPDX-License-Identifier: Apache-2.0
"""The library as strangers use it: from Python, from C, and as it is installed."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import BUILD, ROOT, Agent

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An installation below a folder that is none of the compiled-in ones."""
    where = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", where], check=True)
    return where


def library_of(installed: pathlib.Path) -> pathlib.Path:
    """The shared library that was installed."""
    return next(installed.rglob("libera.so.0"))


def test_header_map_and_library_agree(installed: pathlib.Path) -> None:
    """What era.h declares is what libera.map exports is what the library has."""
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include/era/era.h").read_text(), flags=re.DOTALL)
    declared = set(re.findall(r"\b(era_\w+)\s*\(", header))
    declared -= set(re.findall(r"\(\*(era_\w+)\)", header))
    mapped = set(re.findall(r"^\s+(era_\w+);", (ROOT / "src/main/libera.map").read_text(), re.MULTILINE))
    symbols = subprocess.run(["nm", "-D", "--defined-only", library_of(installed)], capture_output=True, text=True, check=True)
    exported = set(re.findall(r" T (\w+)@@ERA_0\.1", symbols.stdout))
    assert declared == mapped == exported


def test_python_drives_it(agent: Agent, installed: pathlib.Path) -> None:
    """The example, which has no dependency."""
    env = {**agent.env, "ERA_LIBRARY": str(library_of(installed))}
    run = [sys.executable, EXAMPLES / "python" / "run.py"]
    done = subprocess.run([*run, "python", "echo from $(hostname | cut -c1-6); exit 3"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "from python\nexited 3\n"), done
    wrong = subprocess.run([*run, "cobol", "true"], env=env, capture_output=True, text=True)
    assert "invalid_argument" in wrong.stderr
    assert agent.run("vm", "list", "--all", "-q", check=True).text == ""


def test_c_needs_nothing_but_pkg_config(agent: Agent, installed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The example in C, compiled as its comment says, against the installation."""
    folder = next(installed.rglob("era.pc")).parent
    env = {**agent.env, "PKG_CONFIG_PATH": str(folder), "PKG_CONFIG_SYSROOT_DIR": str(installed)}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "era"], env=env, capture_output=True, text=True, check=True)
    program = tmp_path / "run"
    warnings = ["-Wall", "-Wextra", "-Werror", "-std=c11"]
    subprocess.run(["cc", *warnings, EXAMPLES / "c" / "run.c", *flags.stdout.split(), "-o", program], check=True)
    env["LD_LIBRARY_PATH"] = str(library_of(installed).parent)
    done = subprocess.run([program, "node", "node -p 6*7"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "42\nexited 0\n"), done


def test_the_header_stands_alone_in_c_and_cplusplus(tmp_path: pathlib.Path) -> None:
    """Included first, in both languages."""
    for name, compiler in (("a.c", "cc"), ("a.cc", "c++")):
        if compiler == "c++" and subprocess.run(["which", "c++"], capture_output=True).returncode != 0:
            compiler = "clang"
        source = tmp_path / name
        source.write_text("#include <era/era.h>\nint main(void) { return era_version() == 0; }\n")
        subprocess.run([compiler, "-I", ROOT / "include", "-Wall", "-Werror", "-fsyntax-only", source], check=True)


def test_the_data_example_remembers(agent: Agent) -> None:
    """Its second VM knows what the first counted."""
    done = subprocess.run([EXAMPLES / "data" / "run.sh"], env={**agent.env, "AGENT": str(agent.program)},
                          capture_output=True, text=True, timeout=120)
    first, second = done.stdout.splitlines()
    assert first.startswith('[["to", 2]') and second.startswith('[["to", 4]'), done


def test_the_installed_program_finds_its_helpers(agent: Agent, installed: pathlib.Path) -> None:
    """In libexec, relative to itself."""
    program = next(path for path in installed.rglob("bin/agent") if os.access(path, os.X_OK))
    done = subprocess.run([program, "vm", "temp", "--language", "python", "--cmd", "echo ok"], env=agent.env, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done
