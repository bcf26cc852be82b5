# SPDX-License-Identifier: Apache-2.0
"""With a network, a guest must not reach the host or the cloud's metadata, however it asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import Agent
from tests.system.test_network import Site

# The host's own addresses, where something listens on port 8099, and the metadata of clouds, on port 80.
FORBIDDEN = [
    *(("169.254.169.254", 80), ("fd00:ec2::254", 80), ("::ffff:169.254.169.254", 80)),
    *(("127.0.0.1", 8099), ("127.9.9.9", 8099), ("0.0.0.0", 8099), ("::1", 8099), ("::ffff:127.0.0.1", 8099)),
    *(("10.77.0.1", 8099), ("172.17.0.1", 8099), ("10.99.0.1", 8099), ("::ffff:10.99.0.1", 8099)),
    *(("fd77::1", 8099), ("fd88::1", 8099), ("fe80::1", 8099)),
    *(("198.18.0.53", 8099), ("198.18.0.53", 80)),
]

# Tries every address at once, in the way that is named; prints those that answered.
PROGRAM = """
import json, socket, struct, sys, threading
way, targets = json.load(sys.stdin)
device = next(name for _, name in socket.if_nameindex() if name != "lo")
index = socket.if_nametoindex(device)
link_local = ""
for line in open("/proc/net/if_inet6"):
    words = line.split()
    if words[5] == device and words[0].startswith("fe80"):
        link_local = ":".join(words[0][i : i + 4] for i in range(0, 32, 4))

def prepare(s, ipv6):
    if way == "bound to the interface by name":
        s.setsockopt(socket.SOL_SOCKET, 25, device.encode() + bytes(1))
    elif way == "bound to the interface by number":
        s.setsockopt(socket.SOL_SOCKET, 62, struct.pack("i", index))
    elif way == "sent by the interface":
        s.setsockopt(*((41, 76) if ipv6 else (0, 50)), struct.pack(">I", index))
    elif way == "without the routing table":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    elif way == "bound to a link-local address" and ipv6:
        s.bind((link_local, 0, 0, index))

reached = []
def attempt(host, port):
    ipv6 = ":" in host
    with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET) as s:
        s.settimeout(2)
        try:
            prepare(s, ipv6)
            s.connect((host, port, 0, index) if ipv6 and host.startswith("fe80") else (host, port))
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            if s.recv(1):
                reached.append([host, port])
        except OSError:
            pass

threads = [threading.Thread(target=attempt, args=target) for target in targets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(sorted(reached)))
"""

# One datagram to each, sent by the interface as ancillary data says; prints who answered.
DATAGRAMS = """
import json, select, socket, struct, sys
targets = json.load(sys.stdin)
device = next(name for _, name in socket.if_nameindex() if name != "lo")
control = [(socket.IPPROTO_IP, 8, struct.pack("I8x", socket.if_nametoindex(device)))]
sockets = {}
for host in targets:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockets[s] = host
    try:
        s.sendmsg([b"?"], control, 0, (host, 53))
    except OSError:
        pass
answered = []
while ready := select.select([s for s in sockets if sockets[s]], [], [], 2)[0]:
    for s in ready:
        try:
            s.recv(100)
            answered.append(sockets[s])
        except OSError:
            pass
        sockets[s] = ""
print(json.dumps(sorted(answered)))
"""

# Each order to the routing table is answered with an errno.
ORDERS = """
import json, socket, struct
device = socket.if_nametoindex(next(name for _, name in socket.if_nameindex() if name != "lo"))
def order(kind, flags, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("IHHII", 16 + len(body), kind, flags | 5, 1, 0) + body)
    answer = s.recv(4096)
    return -struct.unpack_from("i", answer, 16)[0]
def attribute(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data
metadata = attribute(1, socket.inet_aton("169.254.169.254"))
by = attribute(4, struct.pack("i", device))
route = struct.pack("BBBBBBBBI", 2, 32, 0, 0, 254, 3, 253, 1, 0)
local = struct.pack("BBBBBBBBI", 2, 16, 0, 0, 255, 0, 254, 2, 0) + attribute(1, socket.inet_aton("169.254.0.0"))
rule = struct.pack("BBBBBBBBI", 10, 128, 0, 0, 0, 0, 0, 7, 0)
link = struct.pack("BBHiII", 0, 0, 0, device, 0, 1)
print(json.dumps({
    "add a route": order(24, 0x400, route + metadata + by),
    "remove a route": order(25, 0, local),
    "remove a rule": order(33, 0, rule + attribute(1, socket.inet_pton(10, "fd00:ec2::254"))),
    "add a rule": order(32, 0x400, struct.pack("BBBBBBBBI", 10, 0, 0, 0, 254, 0, 0, 1, 0)),
    "take the interface down": order(16, 0, link),
    "add an address": order(20, 0x400, struct.pack("BBBBI", 2, 32, 0, 0, device) + attribute(2, socket.inet_aton("10.1.1.1"))),
    "add a neighbour": order(28, 0x400, struct.pack("BBHiHBB", 2, 0, 0, device, 128, 0, 0) + metadata + attribute(2, bytes(6))),
}))
"""


@pytest.fixture(scope="module")
def place(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A host with more addresses than one, services on all of them, and a VM with a network."""
    site = Site(agent, tmp_path_factory.mktemp("site"))
    try:
        site.lay_cable()
        site.add_bridge()
        site.serve(site.there, "--http", ":::80", "--dns", "0.0.0.0:53")
        site.serve(site.here, "--http", ":::8099", "--dns", "0.0.0.0:53")
        vm = site.connected_vm()
        try:
            yield site, vm
        finally:
            agent.clean(vm)
    finally:
        site.close()


def ask(place: tuple[Site, str], program: str, question: object = None) -> object:
    """What a program in the VM answers."""
    site, vm = place
    words = ("vm", "exec", "--vm", vm, "--", "python3", "-c", program)
    return json.loads(site.agent.run(*words, input=json.dumps(question).encode(), check=True).text)


@pytest.mark.parametrize("way", [
    "plainly",
    "bound to the interface by name",
    "bound to the interface by number",
    "sent by the interface",
    "without the routing table",
    "bound to a link-local address",
])
def test_reaching_the_host_or_the_metadata_by_a_socket_that(place: tuple[Site, str], way: str) -> None:
    """A socket may name its interface without privilege; the kernel then takes an unreachable route for advice."""
    # The neighbour answers, so that silence of the others means something.
    assert ask(place, PROGRAM, [way, [["10.77.0.2", 80], *FORBIDDEN]]) == [["10.77.0.2", 80]]


def test_reaching_the_host_by_datagrams_that_name_the_interface(place: tuple[Site, str]) -> None:
    """IP_PKTINFO, which no filter of system calls sees."""
    hosts = ["10.77.0.1", "172.17.0.1", "10.99.0.1", "127.0.0.1", "169.254.169.254"]
    assert ask(place, DATAGRAMS, ["10.77.0.2", *hosts]) == ["10.77.0.2"]


def test_changing_the_routes(place: tuple[Site, str]) -> None:
    """All that netlink offers is answered with EPERM."""
    answers = ask(place, ORDERS)
    assert isinstance(answers, dict) and set(answers.values()) == {1}, answers
