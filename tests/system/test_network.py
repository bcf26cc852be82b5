# SPDX-License-Identifier: Apache-2.0
"""Networks, tried against a test host in a network namespace that the test makes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import Agent, eventually, shim_of

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
        made.serve(made.there, "--http", "0.0.0.0:80", "--dns", "0.0.0.0:53")
        made.serve(made.here, "--http", "0.0.0.0:8099")
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


def test_allow_all_reaches_the_world_and_not_the_host(site: Site, tmp_path: pathlib.Path) -> None:
    """The test host by address and by name; never our loopback, and never the metadata address."""
    import json

    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    vm = json.loads(site.run("vm", "create", "--language", "python", "--network", "allow_all"))["id"]
    try:
        site.run("vm", "cp", str(probe), f"{vm}:/workspace/in/probe.py")

        def fetch(url: str) -> str:
            return site.agent.run("vm", "exec", "--vm", vm, "--", "python3", "/workspace/in/probe.py", url).text.strip()

        assert fetch("http://10.77.0.2/") == "hello"
        assert fetch("http://10.77.0.3/") == "hello"
        assert fetch("http://test.example/") == "hello"
        for url in ("http://169.254.169.254/", "http://127.0.0.1:8099/", "http://10.77.0.1:8099/", "http://[::1]:8099/"):
            assert fetch(url) == "unreachable", url
        site.agent.sh(vm, "(python3 -m http.server 8123 >/dev/null 2>&1 &) ; until grep -q 1FBB /proc/net/tcp; do :; done")
        inwards = subprocess.run(
            ["ip", "netns", "exec", site.here, sys.executable, "-c",
             "import socket; socket.create_connection(('127.0.0.1', 8123), 2)"], capture_output=True)
        assert inwards.returncode != 0
    finally:
        site.agent.clean(vm)


def test_the_helper_of_a_network_dies_with_its_vm(site: Site) -> None:
    """Also when the shim is killed."""
    import json

    def helpers() -> str:
        return subprocess.run(["pgrep", "-f", "^pasta .*198.18.0.53"], capture_output=True, text=True).stdout

    vm = json.loads(site.run("vm", "create", "--language", "python", "--network", "allow_all"))["id"]
    assert helpers() != ""
    os.kill(shim_of(site.agent, vm), signal.SIGKILL)
    eventually(lambda: helpers() == "")
    site.agent.clean(vm)
