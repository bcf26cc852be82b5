# SPDX-License-Identifier: Apache-2.0
"""exec and logs --follow: our own stdin, stdout, stderr and signals."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import signal
import subprocess

import pytest

from tests.conftest import SLOW, Agent, eventually

DAEMON = """
import os, signal, sys, time
if os.fork():
    sys.exit()
os.setsid()
if os.fork():
    sys.exit()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
open("/tmp/daemon", "w").write(str(os.getpid()))
if len(sys.argv) > 1:
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(1000)
"""


def commands_of(agent: Agent, vm: str) -> str:
    """The command lines of all processes in a VM."""
    return agent.sh(vm, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").text


def test_bytes_go_in_and_out_unchanged(agent: Agent, vm: str) -> None:
    """Five megabytes of noise, both ways at once."""
    noise = os.urandom(5 << 20)
    result = agent.run("vm", "exec", "--vm", vm, "--cmd", "tee /tmp/copy; sha256sum /tmp/copy >&2", input=noise, check=True)
    assert result.stdout == noise
    assert result.stderr.split()[0].decode() == hashlib.sha256(noise).hexdigest()


def test_input_has_an_end(agent: Agent, vm: str) -> None:
    """An empty one, a closed one, and one that nobody in the VM reads to its end."""
    assert agent.sh(vm, "cat; echo end", input=b"").text == "end\n"
    words = [str(agent.program), "vm", "exec", "--vm", vm, "--cmd", "cat; echo end"]
    closed = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *words], env=agent.env, capture_output=True, timeout=60)
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"end\n", b"")
    assert agent.sh(vm, "head -c 3", input=b"abc" * 1000000).text == "abc"


def test_input_goes_in_while_output_comes_out(agent: Agent, vm: str) -> None:
    """Line by line, as with a program that answers."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", 'while read -r w; do echo "<$w>"; done; echo end; exit 3',
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None
    for word in (b"one", b"two"):
        run.stdin.write(word + b"\n")
        run.stdin.flush()
        assert run.stdout.readline() == b"<" + word + b">\n"
    run.stdin.close()
    assert run.stdout.read() == b"end\n"
    assert run.wait(30) == 3


def test_argv_meets_no_shell(agent: Agent, vm: str) -> None:
    """Words arrive as they are, also empty ones and those that look like options."""
    result = agent.run("vm", "exec", "--vm", vm, "--", "printf", "%s|", "a b", "$HOME", "*", "", "--vm", "--", check=True)
    assert result.text == "a b|$HOME|*||--vm|--|"


def test_environment_and_working_directory(agent: Agent) -> None:
    """The run's own win over the VM's; nothing of ours gets in."""
    vm = agent.create("--env", "A=vm", "--env", "B=vm")
    try:
        words = ("vm", "exec", "--vm", vm, "--env", "B=run", "--env", "C=a=b c", "--workdir", "/tmp", "--cmd",
                 'echo "$A,$B,$C,$(pwd),$SECRET"')
        assert agent.run(*words, check=True, env={"SECRET": "host"}).text == "vm,run,a=b c,/tmp,\n"
        assert agent.sh(vm, 'echo "$A,$B,$C,$(pwd)"').text == "vm,vm,,/workspace\n"
        assert agent.run("vm", "exec", "--vm", vm, "--workdir", "/no/such", "--cmd", "true").code == 126
    finally:
        agent.clean(vm)


@pytest.mark.parametrize("code", [0, 1, 42, 124, 125, 255])
def test_the_exit_status_is_the_commands(agent: Agent, vm: str, code: int) -> None:
    """Whatever it is."""
    result = agent.run("vm", "exec", "--vm", vm, "--cmd", f"exit {code}")
    assert (result.code, result.stdout, result.stderr) == (code, b"", b"")


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_told_as_a_shell_tells_it(agent: Agent, vm: str, signo: signal.Signals) -> None:
    """128+N."""
    assert agent.run("vm", "exec", "--vm", vm, "--cmd", f"kill -{signo.value} $$").code == 128 + signo


@pytest.mark.parametrize(("line", "output", "errors", "code"), [
    ("python3 -c 'print(\"$HOME\", 1)'", "$HOME 1\n", "", 0),
    ("printenv PWD", "/workspace\n", "", 0),
    ("env A='b c' printenv A", "b c\n", "", 0),
    ("/tmp/words 'a b' c", "2\n", "", 0),
    ("echo $((1 + 1)) | cat", "2\n", "", 0),
    ("exit 3", "", "", 3),
    ("nosuch -x", "", "/bin/sh: 1: nosuch: not found\n", 127),
    ("/tmp", "", "/bin/sh: 1: /tmp: Permission denied\n", 126),
])
def test_a_command_line_is_a_shells(agent: Agent, vm: str, line: str, output: str, errors: str, code: int) -> None:
    """A plain one is run without a shell, and cannot tell: not even a script that does not name its interpreter."""
    agent.sh(vm, "printf 'echo $#\\n' >/tmp/words && chmod +x /tmp/words")
    result = agent.run("vm", "exec", "--vm", vm, "--cmd", line)
    assert (result.text, result.stderr.decode(), result.code) == (output, errors, code)


def test_a_command_that_is_not_there(agent: Agent, vm: str) -> None:
    """127, as a shell says, with the reason on stderr; 126 for what cannot be executed."""
    result = agent.run("vm", "exec", "--vm", vm, "--", "no-such-program")
    assert result.code == 127 and b"no-such-program" in result.stderr
    assert agent.run("vm", "exec", "--vm", vm, "--", "/etc/passwd").code == 126


@pytest.mark.parametrize("how", ["plain", "daemon", "stopped", "holding"])
def test_a_timeout_kills_all_that_the_command_began(agent: Agent, vm: str, how: str) -> None:
    """Also what forked twice into a session of its own, ignores signals, stopped itself, or holds the pipes."""
    agent.run("vm", "exec", "--vm", vm, "--cmd", "cat > /tmp/daemon.py", input=DAEMON.encode(), check=True)
    begin = {
        "plain": "",
        "daemon": "python3 /tmp/daemon.py >/dev/null 2>&1 </dev/null; until [ -s /tmp/daemon ]; do sleep 0.01; done;",
        "stopped": "python3 /tmp/daemon.py stop; until [ -s /tmp/daemon ]; do sleep 0.01; done;",
        "holding": "trap '' TERM; (sleep 7654 & sleep 7654 &); ",
    }[how]
    result = agent.run("vm", "exec", "--vm", vm, "--timeout", str(SLOW), "--cmd", f"{begin} echo begun; sleep 7654")
    assert (result.code, result.stdout) == (124, b"begun\n"), result
    left = commands_of(agent, vm)
    assert "7654" not in left and "daemon.py" not in left, left


def test_a_run_that_timed_out_says_so(agent: Agent, vm: str) -> None:
    """What it wrote until then is kept."""
    result = agent.run("vm", "run", "--vm", vm, "--timeout", str(SLOW / 2), "--cmd", "echo begun; sleep 1000")
    shown = result.json()
    assert (result.code, shown["verdict"], shown["timed_out"], shown["exit_code"]) == (124, "timed_out", True, 124)
    assert agent.run("vm", "logs", "--vm", vm, check=True).text == "begun\n"


def test_several_vms_side_by_side(agent: Agent, vm: str, node_vm: str) -> None:
    """Each line says whose it is, and the worst status is ours."""
    command = "cat; echo one; echo two; echo err >&2; printf end; [ $(hostname) = unknown ] || exit 4"
    result = agent.run("vm", "exec", "--vm", vm, "--vm", node_vm, "--cmd", command, input=b"not for them")
    assert result.code == 4
    assert sorted(result.text.splitlines()) == sorted(f"{v} | {w}" for v in (vm, node_vm) for w in ("one", "two", "end"))
    assert sorted(result.stderr.decode().splitlines()) == sorted(f"{v} | err" for v in (vm, node_vm))


def test_lines_of_several_vms_stay_whole(agent: Agent, vm: str, node_vm: str) -> None:
    """However long they are and wherever the pieces end that they come in."""
    command = "i=0; while [ $i -lt 200 ]; do printf '%09000d\\n' 7; i=$((i+1)); done"
    result = agent.run("vm", "exec", "--all", "--cmd", command, check=True)
    lines = result.text.splitlines()
    assert len(lines) == 400
    assert {re.sub("0+7$", "", line) for line in lines} == {f"{vm} | ", f"{node_vm} | "}
    assert {len(line.split(" | ")[1]) for line in lines} == {9000}


def test_nothing_begins_when_one_of_several_is_unknown(agent: Agent, vm: str) -> None:
    """All or none."""
    result = agent.run("vm", "exec", "--vm", vm, "--vm", "python-1", "--cmd", "touch /tmp/begun")
    assert (result.code, result.error()["code"]) == (125, "vm_not_found")
    assert agent.run("vm", "exec", "--vm", vm, "--cmd", "test -e /tmp/begun").code == 1


def test_exec_all_without_a_vm_is_done_at_once(fresh_state: Agent) -> None:
    """Nothing to do is no failure."""
    result = fresh_state.run("vm", "exec", "--all", "--cmd", "true", check=True)
    assert result.stdout == b"" and result.stderr == b""


def test_an_interrupt_reaches_the_command(agent: Agent, vm: str) -> None:
    """The guest traps it and says good bye."""
    script = "trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", script, stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.read() == b"bye\n"
    assert run.wait(30) == 5


def test_who_ignores_hang_ups_keeps_its_command(agent: Agent, vm: str) -> None:
    """`nohup agent vm exec …` outlives its terminal."""
    words = [str(agent.program), "vm", "exec", "--vm", vm, "--cmd", "echo ready; read -r line; echo $line"]
    run = subprocess.Popen(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *words], env=agent.env, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGHUP)
    run.stdin.write(b"still here\n")
    run.stdin.close()
    assert run.stdout.read() == b"still here\n"
    assert run.wait(30) == 0


def test_a_second_interrupt_kills(agent: Agent, vm: str) -> None:
    """Also what ignores the first."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done",
                      stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == b"no\n"
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 137


def test_an_interrupt_is_heard_in_a_flood(agent: Agent, vm: str) -> None:
    """Output without a pause does not keep us from our signals."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "yes", stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"y\n"
    run.send_signal(signal.SIGINT)
    while run.stdout.read(1 << 20):
        pass
    assert run.wait(30) == 130


def test_a_reader_that_goes_away_ends_the_command(agent: Agent, vm: str) -> None:
    """Like any command before `head`."""
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stderr is not None and run.stdout.readline() == b"y\n"
    run.stdout.close()
    assert run.wait(30) == 141
    assert run.stderr.read() == b""
    assert "yes" not in commands_of(agent, vm)


def test_a_pipe_that_does_not_block_loses_nothing(agent: Agent, vm: str) -> None:
    """Who shares it with us may have made it so."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    run = agent.start("vm", "exec", "--vm", vm, "--cmd", "head -c 3000000 /dev/zero; echo end >&2", stdout=theirs,
                      stderr=subprocess.PIPE)
    size = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)
    os.close(theirs)
    with os.fdopen(ours, "rb") as reader:
        eventually(lambda: unread(reader.fileno()) == size)
        assert len(reader.read()) == 3000000
    assert run.wait(30) == 0


def unread(fd: int) -> int:
    """How many bytes wait in a pipe."""
    import array
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def test_a_slow_reader_costs_no_memory(agent: Agent, vm: str) -> None:
    """100 MB wait in the guest, not in us."""
    run = agent.start("vm", "exec", "--vm", vm, "--timeout", "110", "--cmd", "head -c 100000000 /dev/zero", stdout=subprocess.PIPE)
    assert run.stdout is not None
    limit = 400 << 10 if os.environ.get("AGENT_SANITIZED") else 32 << 10
    got = 0
    while piece := run.stdout.read(1 << 20):
        got += len(piece)
        if got < 99 << 20 >> 1:  # it waits for us: it is not gone yet
            with open(f"/proc/{run.pid}/status", encoding="ascii") as status:
                assert next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) < limit
    assert got == 100000000
    assert run.wait(30) == 0


def test_the_logs_of_a_flood_keep_head_and_tail(agent: Agent, vm: str) -> None:
    """And the caller is told that something is missing."""
    result = agent.run("vm", "run", "--vm", vm, "--cmd", "echo first; head -c 40000000 /dev/zero; echo last", check=True)
    shown = result.json()
    assert shown["truncated"] is True and shown["stdout_dropped_bytes"] > 0
    with open(shown["stdout"], "rb") as log:
        text = log.read()
    assert text.startswith(b"first\n") and text.endswith(b"last\n") and len(text) < 17 << 20


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_follow_stays_with_its_run(agent: Agent, vm: str, verb: str) -> None:
    """Everything that it wrote, as it writes it, also when others run and end meanwhile."""
    wait = "echo first; until [ -e /tmp/go ]; do sleep 0.05; done; echo last"
    run = agent.start("vm", verb, "--vm", vm, "--cmd", wait, stdout=subprocess.DEVNULL)
    eventually(lambda: agent.run("vm", "logs", "--vm", vm).stdout == b"first\n")
    follow = agent.start("vm", "logs", "--vm", vm, "--follow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert follow.stdout is not None and follow.stdout.readline() == b"first\n"
    agent.sh(vm, "touch /tmp/go")
    out, err = follow.communicate(timeout=60)
    assert (follow.returncode, out, err) == (0, b"last\n", b"")
    assert run.wait(30) == 0


def test_follow_of_a_run_that_is_over_prints_it(agent: Agent, vm: str) -> None:
    """By its id, and of either stream."""
    shown = agent.run("vm", "run", "--vm", vm, "--cmd", "echo out; echo err >&2", check=True).json()
    agent.sh(vm, "echo younger")
    words = ("vm", "logs", "--vm", vm, "--run", shown["run"], "--follow")
    assert agent.run(*words, check=True).text == "out\n"
    assert agent.run(*words, "--stderr", check=True).text == "err\n"
