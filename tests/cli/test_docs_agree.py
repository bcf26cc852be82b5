# SPDX-License-Identifier: Apache-2.0
"""--help, the manual pages and the completion script say the same."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

from tests.conftest import BUILD, Agent

GROUPS = ["vm", "image", "volume", "snapshot"]
COMMANDS = ["serve", "doctor", "version", "completion", "vm create", "vm run", "vm exec", "vm shell", "vm temp",
            "vm list", "vm show", "vm logs", "vm cp", "vm stop", "vm pause", "vm resume", "vm snapshot", "vm fork",
            "vm clean", "image build", "image pull", "image import", "image list", "image remove", "volume list",
            "volume remove", "snapshot list", "snapshot remove"]
PAGES = ["agent.1", "agent-vm.1", "agent-image.1", "agent-volume.1", "agent-snapshot.1", "agent-serve.1"]


def help_of(agent: Agent, command: str) -> str:
    """What --help prints."""
    return agent.run(*command.split(), "--help", check=True).text


def options_of(text: str) -> set[str]:
    """The options that a help text lists."""
    return set(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE))


def page_of(command: str) -> pathlib.Path:
    """The manual page that a command is in."""
    group = command.split()[0]
    return BUILD / "src" / "main" / (f"agent-{group}.1" if group in GROUPS else "agent.1")


def section_of(command: str) -> str:
    """The part of the page on one command, without troff's backslashes before hyphens."""
    text = page_of(command).read_text().replace("\\-", "-")
    match = re.search(rf'^\.SS "agent {command}[ "].*?(?=^\.S[SH] )', text, re.MULTILINE | re.DOTALL)
    assert match is not None, command
    return match.group()


@pytest.mark.parametrize("level", ["", *GROUPS, *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_works_at_every_level(agent: Agent, level: str, flag: str) -> None:
    """On stdout, with status 0, and without a state directory."""
    result = agent.run(*level.split(), flag, env={"AGENT_STATE_DIR": "/dev/null/none"})
    assert result.code == 0 and result.stderr == b"" and result.text.startswith(f"Usage: agent {level}".rstrip())


def test_help_names_every_command(agent: Agent) -> None:
    """And no other one: the list of this file is the list of the program."""
    found = []
    for level in ["", *GROUPS]:
        names = help_of(agent, level).split("Commands:\n")[1].split("\n\n")[0]
        found += [f"{level} {line.split()[0]}".strip() for line in names.splitlines()]
    assert sorted(found) == sorted([*GROUPS, *COMMANDS])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_has_what_help_has(agent: Agent, command: str) -> None:
    """Each option in the command's own section, the global ones in theirs; and none besides."""
    text = help_of(agent, command)
    own, everywhere = (options_of(part) for part in text.split("Global options:"))
    assert set(re.findall(r"^\\fB--([a-z-]+)\\fR", section_of(command), re.MULTILINE)) == own
    page = page_of(command).read_text().replace("\\-", "-")
    for option in everywhere - {"help"}:
        assert f"\\fB--{option}\\fR" in page.split(".SH GLOBAL OPTIONS")[1], option


@pytest.mark.parametrize("page", PAGES)
def test_the_manual_renders_without_a_warning(page: str) -> None:
    """By groff with all warnings on, and as text without what troff did not understand."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    words = ["groff", "-man", "-ww", "-Tutf8", "-rLL=100n", str(BUILD / "src" / "main" / page)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    plain = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert "NAME" in plain and "\\f" not in plain and "\\-" not in plain


def complete(agent: Agent, *words: str, program: str = "agent") -> list[str]:
    """What bash offers for the last of the words, taken apart as readline does."""
    script = """
        source <("$1" completion bash)
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _agent agent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-uc", script, "bash", agent.program, program, *words], capture_output=True, text=True,
                          env=agent.env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_offers_every_option_of_help(agent: Agent, command: str) -> None:
    """After the command's name, whatever was typed before."""
    options = {f"--{option}" for option in options_of(help_of(agent, command))}
    assert set(complete(agent, *command.split(), "--")) == options
    assert set(complete(agent, "--state-dir", "/tmp", "--log-level", "=", "debug", *command.split(), "--")) == options


def test_bash_completes_commands(agent: Agent) -> None:
    """Groups, verbs, and verbs of groups."""
    assert set(GROUPS) <= set(complete(agent, ""))
    assert {command for command in COMMANDS if " " not in command} <= set(complete(agent, ""))
    for group in GROUPS:
        assert complete(agent, group, "") == [c.split()[1] for c in COMMANDS if c.startswith(f"{group} ")]
    assert complete(agent, "vm", "cr") == ["create"]
    assert complete(agent, "--state-dir", "/tmp", "vm", "cr") == ["create"]
    assert complete(agent, "--log-level", "=", "debug", "vm", "cr") == ["create"]


def test_bash_completes_values(agent: Agent, vm: str, tmp_path: pathlib.Path) -> None:
    """Of options that have known ones, files, and VMs; written --name value and --name=value."""
    assert complete(agent, "vm", "create", "--language", "py") == ["python"]
    assert complete(agent, "vm", "create", "--language", "=", "py") == ["python"]
    assert complete(agent, "vm", "create", "--network", "=") == ["none", "allow_all"]
    assert complete(agent, "vm", "list", "--output", "") == ["json", "table"]
    assert complete(agent, "vm", "create", "--cpu", "") == []
    assert complete(agent, "vm", "create", "--cpu", "2", "--pers") == ["--persist"]
    assert complete(agent, "vm", "create", "--persist", "--disk", "16", "--vol") == ["--volume"]
    assert complete(agent, "vm", "show", "--vm", "", program=str(agent.program)) == [vm]
    (tmp_path / "file").touch()
    assert complete(agent, "vm", "run", "--file", f"{tmp_path}/fi") == [f"{tmp_path}/file"]


def test_the_installed_script_is_the_printed_one(agent: Agent) -> None:
    """And bash takes it without a complaint."""
    script = BUILD / "src" / "main" / "agent.bash"
    assert script.read_text() == agent.run("completion", "bash", check=True).text
    done = subprocess.run(["bash", "-n", script], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
