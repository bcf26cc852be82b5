# SPDX-License-Identifier: Apache-2.0
"""Python in a VM: the system calls that sandboxes forget, databases, environments, packages without a network."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.conftest import Agent

HERE = pathlib.Path(__file__).parent / "python"


@pytest.fixture(scope="module")
def python_vm(agent: Agent) -> Iterator[str]:
    """One VM for all of these, without a network."""
    created = agent.create("--mem", "512", "--cpu", "2", "--persist", "--disk", "256")
    yield created
    agent.clean(created)


def test_system_calls_on_which_sandboxes_stumble(agent: Agent, python_vm: str) -> None:
    """Each does what programs rely on, or is absent in the way that they know: see traps.py."""
    source = (HERE / "traps.py").read_text()
    result = agent.run("vm", "exec", "--vm", python_vm, "--timeout", "60", "--", "python3", "-c", source, check=True)
    wanted = len(re.findall(r"^def \w+\(\):", source, re.MULTILINE))
    assert result.text == f"{wanted} tried\n"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/workspace/persist"])
def test_sqlite_with_many_processes(agent: Agent, python_vm: str, folder: str) -> None:
    """Locks, shared memory of the log, fsync: on every kind of storage that a VM has."""
    agent.run("vm", "cp", str(HERE / "databases.py"), f"{python_vm}:/workspace/databases.py", check=True)
    assert agent.sh(python_vm, f"python3 databases.py {folder}", "--timeout", "100").text == "(2400, 320)\n"


def test_venv_and_pip_with_a_wheel_and_a_source_archive(agent: Agent, python_vm: str, tmp_path: pathlib.Path) -> None:
    """An environment of its own; a package built to a wheel and to an sdist, and each installed, with its program."""
    package = tmp_path / "package"
    (package / "src" / "greeting").mkdir(parents=True)
    (package / "src" / "greeting" / "__init__.py").write_text('def main() -> None:\n    print("hello from", __name__)\n')
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools", "wheel"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "greeting"\nversion = "1.0"\nscripts = {greet = "greeting:main"}\n'
    )
    agent.run("vm", "cp", str(package), f"{python_vm}:/workspace/package", check=True)
    script = """
        set -e
        cd /workspace/package
        python3 -c 'import setuptools.build_meta as build; print(build.build_sdist("dist"))'
        pip wheel --quiet --no-index --no-build-isolation --no-deps --wheel-dir dist .
        for archive in dist/*.whl dist/*.tar.gz; do
            rm -rf /workspace/venv
            python3 -m venv --system-site-packages /workspace/venv
            /workspace/venv/bin/pip install --quiet --no-index --no-build-isolation $archive
            /workspace/venv/bin/greet
            /workspace/venv/bin/python -c 'import greeting, sys; print(sys.prefix, greeting.__file__)'
            /workspace/venv/bin/pip uninstall --quiet --yes greeting
        done
        pip install --quiet --no-index dist/*.whl
        greet
    """
    said = agent.sh(python_vm, script, "--timeout", "100").text
    where = "/workspace/venv /workspace/venv/lib/python3.11/site-packages/greeting/__init__.py"
    assert said.splitlines()[-5:] == ["hello from greeting", where, "hello from greeting", where, "hello from greeting"]
