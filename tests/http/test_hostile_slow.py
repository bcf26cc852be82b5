# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, that stop, and that vanish: they are cut, or wait at their own cost; nobody else does."""

from __future__ import annotations

import os
import pathlib
import random
import selectors
import socket
import time
from collections.abc import Callable

import pytest

from tests.conftest import eventually
from tests.http.conftest import Server
from tests.http.hostile import HEALTH, HOST, Watch, connect, connect_tls, memory_kib, post, rest, runs_in_flight, vanish
from tests.http.hostile import watch as watch  # a fixture

OPTIONS = ("--request-timeout", "2", "--idle-timeout", "3")  # of the server `target`
SENT = b"Host: localhost\r\nContent-Type: application/json\r\n"
DROPS = [  # what they begin with, and what comes now and then
    (b"", b"G"),
    (b"", b"\r\n"),
    (b"GET /health HTTP/1.1\r\n", b"X: y\r\n"),
    (b"POST /api/vm/temp HTTP/1.1\r\n" + SENT + b"Content-Length: 100000\r\n\r\n{", b" "),
    (b"POST /api/vm/temp HTTP/1.1\r\n" + SENT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    (b"PUT /api/vm/HOME/files/workspace/slow HTTP/1.1\r\n" + SENT + b"Content-Length: 100000\r\n\r\n", b"x"),
]


def test_who_speaks_by_drops_is_cut(target: Server, home: str) -> None:
    waiting = selectors.DefaultSelector()
    began = time.monotonic()
    for begin, drop in DROPS * 30:
        connection = connect(target)
        connection.sendall(begin.replace(b"HOME", home.encode()))
        waiting.register(connection, selectors.EVENT_READ, drop)
    while waiting.get_map():
        assert time.monotonic() - began < 40, f"{len(waiting.get_map())} were not cut"
        for key, _ in waiting.select(0.2):
            assert b" 200 OK" not in rest(key.fileobj)  # type: ignore[arg-type]
            waiting.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        for key in list(waiting.get_map().values()):
            try:
                key.fileobj.send(key.data)  # type: ignore[union-attr]
            except OSError:
                pass  # its end will be seen above
    assert target.run(home, "ls -A /workspace")["stdout"] == "in\nout\n", "half a file is none"


def test_who_vanishes_leaves_nothing(target: Server, home: str) -> None:
    run = post(f"/api/vm/{home}/run?stream=sse", b'{"command":"yes"}')
    temp = post("/api/vm/temp", b'{"language":"python","command":"sleep 1000"}')
    put = f"PUT /api/vm/{home}/files/workspace/gone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n".encode()
    requests = [run, temp, put + b"x" * 250000, HEALTH * 50, b"GET /health", post("/api/vm", b"{" * 9000)]
    chance = random.Random(8)  # the same in each session
    for i in range(60):
        request = requests[i % len(requests)]
        connection = connect(target)
        connection.sendall(request[:chance.randrange(1, len(request) + 1)] if i >= len(requests) else request)
        if i % 2 == 0:
            connection.settimeout(0.05)
            try:
                connection.recv(1)
            except OSError:
                pass
        vanish(connection)
    eventually(lambda: runs_in_flight(target) == 0)
    eventually(lambda: target.run(home, "ls -A /workspace; cat /proc/[0-9]*/comm | grep -x yes")["stdout"] == "in\nout\n")
    eventually(lambda: [vm["id"] for vm in target.ask("GET", "/api/vms").json()["vms"]] == [home])


def stands_still(count: Callable[[], str]) -> None:
    """Waits until a number does not change any more."""
    seen: list[str] = []

    def same() -> bool:
        seen.append(count())
        return len(seen) > 4 and seen[-1] != "" and len(set(seen[-4:])) == 1

    eventually(same, 60)


def test_a_stream_that_is_not_read_holds_its_command_back(target: Server, home: str) -> None:
    command = b"i=0; while :; do printf '%050000d' $i; i=$((i+1)); echo $i > /tmp/count; done"
    with connect(target, receive=4096) as connection:
        connection.sendall(post(f"/api/vm/{home}/run?stream=sse", b'{"timeout":600,"command":"' + command + b'"}'))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        before = memory_kib(target)
        stands_still(lambda: str(target.run(home, "sleep 0.05; cat /tmp/count")["stdout"]))
        assert memory_kib(target) - before < 4096
    eventually(lambda: runs_in_flight(target) == 0)
    first = target.run(home, "cat /tmp/count")["stdout"]
    assert target.run(home, "sleep 0.2; cat /tmp/count")["stdout"] == first, "the command ended with its client"


def test_many_streams_that_are_not_read(target: Server, home: str) -> None:
    before = memory_kib(target)
    streams = [connect(target, receive=4096) for _ in range(30)]
    for connection in streams:
        connection.sendall(post(f"/api/vm/{home}/run?stream=sse", b'{"timeout":600,"command":"cat /dev/zero"}'))
    for connection in streams:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert runs_in_flight(target) == 30
    assert target.run(home, "sleep 0.5; echo here")["stdout"] == "here\n", "the VM has room for others"
    assert memory_kib(target) - before < 30 * 1024
    for connection in streams:
        vanish(connection)
    eventually(lambda: runs_in_flight(target) == 0)


@pytest.mark.parametrize("what", ["file", "result"])
def test_an_answer_that_is_not_read_fills_no_memory(target: Server, home: str, what: str) -> None:
    target.run(home, "head -c 100000000 /dev/zero > /tmp/big")
    request = (f"GET /api/vm/{home}/files/tmp/big HTTP/1.1\r\n".encode() + HOST + b"\r\n" if what == "file"
               else post(f"/api/vm/{home}/run", b'{"timeout":120,"command":"head -c 16000000 /dev/urandom"}'))
    before = memory_kib(target)
    stopped = [connect(target, receive=4096, timeout=120) for _ in range(8)]
    for connection in stopped:
        connection.sendall(request)
    for connection in stopped:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert target.run(home, "echo here")["stdout"] == "here\n"
    assert memory_kib(target) - before < 8 * 1024
    if what == "file":
        connection = stopped.pop()  # it reads on, later, and misses nothing
        received = 100
        while piece := connection.recv(1 << 20):
            received += len(piece)
            if received > 100_000_000:
                break
        connection.close()
        assert received > 100_000_000
    for connection in stopped:
        vanish(connection)


def test_more_at_a_time_than_there_are_threads(target: Server, home: str) -> None:
    connections = [connect(target, timeout=120) for _ in range(150)]
    for i, connection in enumerate(connections):
        connection.sendall(post(f"/api/vm/{home}/run", b'{"command":"echo one"}') if i % 3 == 0
                           else b"GET /api/vms?limit=1000 HTTP/1.1\r\n" + HOST + b"\r\n")
    statuses = {}
    for connection in connections:
        status = connection.recv(65536)[9:12]
        statuses[status] = statuses.get(status, 0) + 1
        connection.close()
    assert statuses == {b"200": 150}


def test_a_file_that_comes_in_the_smallest_pieces(target: Server, home: str) -> None:
    content = os.urandom(3000)
    with connect(target) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(f"PUT /api/vm/{home}/files/tmp/pieces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n"
                           .encode())
        for i in range(len(content)):
            connection.sendall(content[i:i + 1])
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")
    assert target.ask("GET", f"/api/vm/{home}/files/tmp/pieces").body == content


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100  # of TLS, and less than it says


def test_handshakes_of_tls_that_come_to_no_end(serve: Callable[..., Server], certificate: pathlib.Path) -> None:
    own = serve("--idle-timeout", "3", certificate=certificate)
    watched = Watch(own)
    waiting = [(connect(own), begin) for begin in (b"", HELLO, HEALTH, b"\x16", os.urandom(2000), b"\0" * 100) * 10]
    for connection, begin in waiting:
        connection.sendall(begin)
    for connection, _ in waiting:
        assert b"HTTP/1.1 200" not in rest(connection), "cut in the end, whether it spoke or not"
        connection.close()
    for i in range(20):  # agreed on, and then gone
        secret = connect_tls(own)
        secret.sendall(HEALTH[:None if i % 2 else 20])
        vanish(secret)
    watched.finish()
