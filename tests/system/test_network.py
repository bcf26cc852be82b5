# SPDX-License-Identifier: Apache-2.0
"""Networks, tried against a test host in a network namespace that the test makes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, copy_programs, eventually, shim_of

HOST = pathlib.Path(__file__).with_name("network_host.py")

PROBE = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except OSError as error:
    print("unreachable")
"""


class Site:
    """Two namespaces with a cable between them: `here` runs the agent, `there` is the test host."""

    def __init__(self, agent: Agent, tmp_path: pathlib.Path) -> None:
        self.agent = agent
        self.here = f"era-here-{os.getpid()}"
        self.there = f"era-there-{os.getpid()}"
        self.resolver = tmp_path / "resolv.conf"
        self.resolver.write_text("nameserver 10.77.0.2\n")
        self.servers: list[subprocess.Popen[bytes]] = []

    def ip(self, *words: str) -> None:
        """One order of ip(8)."""
        subprocess.run(["ip", *words], check=True)

    def lay_cable(self) -> None:
        """10.77.0.1 here, 10.77.0.2 and the metadata address there."""
        for name in (self.here, self.there):
            self.ip("netns", "add", name)
            self.ip("-n", name, "link", "set", "lo", "up")
        self.ip("link", "add", "era-a", "netns", self.here, "type", "veth", "peer", "name", "era-b", "netns", self.there)
        self.ip("-n", self.here, "addr", "add", "10.77.0.1/24", "dev", "era-a")
        self.ip("-n", self.there, "addr", "add", "10.77.0.2/24", "dev", "era-b")
        self.ip("-n", self.there, "addr", "add", "10.77.0.3/32", "dev", "era-b")
        self.ip("-n", self.there, "addr", "add", "169.254.169.254/32", "dev", "era-b")
        self.ip("-n", self.here, "link", "set", "era-a", "up")
        self.ip("-n", self.there, "link", "set", "era-b", "up")
        self.ip("-n", self.here, "route", "add", "default", "via", "10.77.0.2")
        for name, end, last in ((self.here, "era-a", 1), (self.there, "era-b", 2)):
            self.ip("-n", name, "addr", "add", f"fd77::{last}/64", "dev", end, "nodad")
            self.ip("-n", name, "addr", "add", f"fe80::{last}/64", "dev", end, "nodad")
        self.ip("-n", self.there, "addr", "add", "fd00:ec2::254/128", "dev", "era-b", "nodad")
        self.ip("-n", self.here, "route", "add", "default", "via", "fd77::2")

    def add_bridge(self) -> None:
        """Addresses that a host has besides: of a bridge for containers, and of its loopback device."""
        self.ip("-n", self.here, "link", "add", "era-c", "type", "veth", "peer", "name", "era-d")
        for device in ("era-c", "era-d"):
            self.ip("-n", self.here, "link", "set", device, "up")
        self.ip("-n", self.here, "addr", "add", "172.17.0.1/16", "dev", "era-c")
        self.ip("-n", self.here, "addr", "add", "fd88::1/64", "dev", "era-c", "nodad")
        self.ip("-n", self.here, "addr", "add", "10.99.0.1/32", "dev", "lo")

    def connected_vm(self, *args: str) -> str:
        """A VM with a network, and the probe in it."""
        vm = json.loads(self.run("vm", "create", "--language", "python", "--network", "allow_all", *args))["id"]
        self.agent.sh(vm, "cat > /workspace/probe.py", input=PROBE.encode())
        return str(vm)

    def fetch(self, vm: str, url: str) -> str:
        """What the VM gets from an address."""
        return self.agent.run("vm", "exec", "--vm", vm, "--", "python3", "/workspace/probe.py", url).text.strip()

    def serve(self, namespace: str, *args: str) -> None:
        """Starts the test host's servers and waits until they listen."""
        server = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, HOST, *args], stdout=subprocess.PIPE
        )
        self.servers.append(server)
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"

    def within(self, *args: str) -> list[str]:
        """The words that run the agent here, with the test's resolver and the host's control groups."""
        script = 'mount --bind "$1" /etc/resolv.conf; shift; exec nsenter --net="$@"'
        netns = f"/run/netns/{self.here}"
        return ["unshare", "-m", "sh", "-ec", script, "sh", str(self.resolver), netns, "--", str(self.agent.program), *args]

    def run(self, *args: str) -> str:
        """Runs the agent here."""
        done = subprocess.run(self.within(*args), env=self.agent.env, capture_output=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def close(self) -> None:
        """Takes all of it down."""
        for server in self.servers:
            server.kill()
            server.wait()
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def site(agent: Agent, tmp_path: pathlib.Path) -> Iterator[Site]:
    """The two namespaces, with HTTP and DNS there and a service on the loopback here."""
    made = Site(agent, tmp_path)
    try:
        made.lay_cable()
        made.serve(made.there, "--http", ":::80", "--dns", "0.0.0.0:53")
        made.serve(made.here, "--http", ":::8099", "--dns", "127.0.0.53:53")
        yield made
    finally:
        made.close()


def test_none_is_loopback_and_nothing_else(agent: Agent, vm: str) -> None:
    """One interface, no route, and a server of the guest's own can be reached on it."""
    assert agent.sh(vm, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").text.split() == ["lo"]
    assert agent.sh(vm, "tail -n +2 /proc/net/route").text == ""
    script = (
        "import socket, threading\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname()); c.send(b'x'); print(s.accept()[0].recv(1))\n"
        "try: socket.create_connection(('192.0.2.1', 80), 2)\n"
        "except OSError as e: print(e.errno)"
    )
    result = agent.run("vm", "exec", "--vm", vm, "--", "python3", "-c", script, check=True)
    assert result.text == "b'x'\n101\n"


def descendants(pid: int) -> set[int]:
    """The processes below one."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def living(pids: set[int]) -> set[int]:
    """Those that are more than an entry in the table of processes."""
    left = set()
    for pid in pids:
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            left.add(pid)
    return left


def test_allow_all_reaches_the_world_and_not_the_host(site: Site) -> None:
    """The test host by address and by name; never our loopback, and never the metadata address."""
    vm = site.connected_vm()
    try:
        for url in ("http://10.77.0.2/", "http://10.77.0.3/", "http://[fd77::2]/", "http://test.example/"):
            assert site.fetch(vm, url) == "hello", url
        for url in (
            "http://169.254.169.254/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://127.0.0.1:8099/",
            "http://10.77.0.1:8099/",
            "http://10.77.0.2:8099/",
            "http://198.18.0.53:8099/",
            "http://[::1]:8099/",
            "http://[fd77::1]:8099/",
        ):
            assert site.fetch(vm, url) == "unreachable", url
    finally:
        site.agent.clean(vm)


def test_no_other_address_of_the_host_answers(site: Site) -> None:
    """A service that listens on all of them is reached by none, nor by a link-local one."""
    site.add_bridge()
    vm = site.connected_vm()
    try:
        assert site.fetch(vm, "http://10.77.0.2/") == "hello"
        for host in ("172.17.0.1", "10.99.0.1", "[::ffff:10.99.0.1]", "[fd88::1]", "[fe80::1%era-a]", "[fe80::1]"):
            assert site.fetch(vm, f"http://{host}:8099/") == "unreachable", host
    finally:
        site.agent.clean(vm)


def test_no_port_is_forwarded_inwards(site: Site) -> None:
    """What a guest listens on is its own affair."""
    vm = site.connected_vm()
    try:
        ready = "import socket; s = socket.create_server(('', 8123)); print('up', flush=True); s.accept()"
        listener = site.agent.start("vm", "exec", "--vm", vm, "--", "python3", "-c", ready, stdout=subprocess.PIPE)
        assert listener.stdout is not None and listener.stdout.readline() == b"up\n"
        for namespace, host in ((site.here, "127.0.0.1"), (site.here, "10.77.0.1"), (site.there, "10.77.0.1")):
            dial = f"import socket; socket.create_connection(('{host}', 8123), 5)"
            words = ["ip", "netns", "exec", namespace, sys.executable, "-c", dial]
            assert b"ConnectionRefused" in subprocess.run(words, capture_output=True).stderr, (namespace, host)
        listener.kill()
        listener.wait()
    finally:
        site.agent.clean(vm)


def test_a_resolver_on_the_loopback_of_the_host_is_asked(site: Site) -> None:
    """As systemd-resolved is; nothing else of that loopback is reached by it."""
    site.resolver.write_text("nameserver 127.0.0.53\n")
    vm = site.connected_vm()
    try:
        assert site.fetch(vm, "http://test.example/") == "hello"
    finally:
        site.agent.clean(vm)


@pytest.mark.parametrize("end", ["clean", "stop", "kill"])
def test_the_helper_of_a_network_ends_with_its_vm(site: Site, end: str) -> None:
    """Also when the shim is killed."""
    vm = site.connected_vm()
    try:
        shim = shim_of(site.agent, vm)
        helpers = descendants(shim)
        assert any(b"pasta" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in helpers)
        if end == "kill":
            os.kill(shim, signal.SIGKILL)
        else:
            site.agent.run("vm", end, "--vm", vm, check=True)
        eventually(lambda: not living(helpers))
    finally:
        site.agent.clean(vm)


def test_an_ordinary_user_has_a_network_too(site: Site) -> None:
    """Where anybody may open /dev/net/tun, as on most hosts; limits are not what is tried here."""
    state = pathlib.Path(tempfile.mkdtemp(prefix="era-user-"))
    nobody = 65534
    agent = Agent(state)
    script = "mount -t tmpfs era /dev/net; mknod -m 666 /dev/net/tun c 10 200; exec \"$@\""
    copy = str(copy_programs(state / "bin"))
    become = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]

    def run(*args: str) -> str:
        words = site.within(*args)
        at = words.index("--") + 1
        words = [*words[:at], "unshare", "-m", "sh", "-ec", script, "sh", *become, copy, *words[at + 1 :]]
        done = subprocess.run(words, env=agent.env, capture_output=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout.decode()

    try:
        (state / "images").mkdir()
        for name in ("agent%2Fpython%3A3.11", ".kernel"):
            if (site.agent.state / "images" / name).exists():
                subprocess.run(["cp", "-a", site.agent.state / "images" / name, state / "images" / name], check=True)
        subprocess.run(["chown", "-R", f"{nobody}:{nobody}", state], check=True)
        words = ("vm", "create", "--language", "python", "--network", "allow_all", "--best-effort")
        vm = json.loads(run(*words))["id"]
        program = "import urllib.request as r; print(r.urlopen('http://test.example/').read().decode())"
        assert run("vm", "exec", "--vm", vm, "--", "python3", "-c", program) == "hello\n"
        helpers = descendants(shim_of(agent, vm))
        run("vm", "clean", "--vm", vm)
        eventually(lambda: not living(helpers))
    finally:
        shutil.rmtree(state)
