# SPDX-License-Identifier: Apache-2.0
"""What the attacks share: programs that are compiled on the host and run in a VM, and that VM."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import textwrap
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, Result

HERE = pathlib.Path(__file__).parent


def compile_static(source: str, program: pathlib.Path) -> None:
    """Makes a static program of C files here, which needs nothing of an image."""
    words = ["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", program, *(HERE / name for name in source.split())]
    subprocess.run(words, check=True)


@dataclasses.dataclass
class Arena:
    """A VM in which attacks are tried; they leave it alive."""

    agent: Agent
    vm: str

    def run(self, *argv: str, input: bytes = b"", check: bool = True) -> Result:
        """Runs a program in it, without a shell."""
        return self.agent.run("vm", "exec", "--vm", self.vm, "--", *argv, input=input, check=check)

    def sh(self, command: str, check: bool = True) -> str:
        """Runs a command line in it."""
        return self.agent.sh(self.vm, command, check=check).text

    def python(self, program: str, *argv: str, input: bytes = b"", check: bool = True) -> Result:
        """Runs a Python program in it."""
        return self.run("python3", "-c", textwrap.dedent(program), *argv, input=input, check=check)

    def ask(self, program: str, question: object = None) -> object:
        """What a Python program prints as JSON; it finds the question on stdin."""
        return json.loads(self.python(program, input=json.dumps(question).encode()).text)

    def attempts(self, *argv: str) -> dict[str, int]:
        """The answers of a program that prints lines of NAME TAB ERRNO."""
        lines = self.run(*argv).text.splitlines()
        return {name: int(errno) for name, errno in (line.split("\t") for line in lines)}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the compiled attacks."""
    folder = tmp_path_factory.mktemp("attacks")
    for source in ("syscalls.c", "powers.c", "look.c", "hostile_init.c hostile_machine.c"):
        compile_static(source, folder / source.split()[0].removesuffix(".c"))
    return folder


@pytest.fixture(scope="module")
def arena(agent: Agent, programs: pathlib.Path) -> Iterator[Arena]:
    """A Python VM with the programs in /workspace."""
    vm = agent.create()
    try:
        for name in ("syscalls", "powers"):
            agent.run("vm", "cp", str(programs / name), f"{vm}:/workspace/{name}", check=True)
        yield Arena(agent, vm)
        assert agent.sh(vm, "echo alive").text == "alive\n"
    finally:
        agent.clean(vm)


@pytest.fixture(scope="module")
def neighbour(agent: Agent) -> Iterator[Arena]:
    """Another VM, which is none of the first one's business."""
    vm = agent.create()
    try:
        yield Arena(agent, vm)
    finally:
        agent.clean(vm)


needs_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
