# SPDX-License-Identifier: Apache-2.0
"""WebSockets of clients that flood, and that take nothing: they wait at their own cost."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.conftest import eventually
from tests.http.conftest import Server
from tests.http.hostile import memory_kib, runs_in_flight, vanish
from tests.http.hostile import watch as watch  # a fixture
from tests.http.test_shell import HANDSHAKE, frame, open_raw


def flood(connection: socket.socket, data: bytes, most: int) -> int:
    """Sends until nothing is taken any more, or so many bytes; how many that were."""
    connection.settimeout(1)
    sent = 0
    try:
        while sent < most:
            sent += connection.send(data[:most - sent])
    except OSError:  # also a timeout
        pass
    return sent


@pytest.mark.parametrize("data", [
    frame(9, b"") * 10000, frame(9, b"p" * 125) * 1000, frame(2, b"x" * 60000) * 4, frame(2, b"") * 10000,
], ids=["pings", "long-pings", "input", "nothing"])
def test_a_flood_is_taken_as_fast_as_it_can_be_answered(target: Server, home: str, data: bytes) -> None:
    with open_raw(target, home) as connection:
        connection.sendall(frame(2, b"stty raw -echo; sleep 1000\n"))
        before = memory_kib(target)
        flood(connection, data, 60_000_000)
        assert memory_kib(target) - before < 8192
        vanish(connection)
    eventually(lambda: runs_in_flight(target) == 0)


def test_fragments_without_end_have_an_end(target: Server, home: str) -> None:
    with open_raw(target, home) as connection:
        connection.sendall(frame(2, b"x" * 1000, fin=False))
        before = memory_kib(target)
        flood(connection, frame(0, b"x" * 1000, fin=False) * 100, 30_000_000)
        assert memory_kib(target) - before < 8192
    eventually(lambda: runs_in_flight(target) == 0)


def test_who_broke_a_rule_may_not_go_on_for_ever(target: Server, home: str) -> None:
    with open_raw(target, home) as connection:
        connection.sendall(frame(11, b""))
        began = time.monotonic()
        while flood(connection, b"\0" * 65536, 1 << 20) == 1 << 20:
            assert time.monotonic() - began < 30
    eventually(lambda: runs_in_flight(target) == 0)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65536, 1 << 20, (1 << 20) + 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1])
def test_frames_of_any_length_that_stop_in_their_middle(target: Server, home: str, length: int) -> None:
    sessions = [open_raw(target, home) for _ in range(4)]
    before = memory_kib(target)
    for connection in sessions:
        connection.sendall(b"\x82\xff" + struct.pack("!Q", length) + b"mask" + b"some")
    assert target.run(home, "echo here")["stdout"] == "here\n"
    assert memory_kib(target) - before < 8192, "what is announced is not taken for what is there"
    for connection in sessions:
        vanish(connection)
    eventually(lambda: runs_in_flight(target) == 0)


def test_what_follows_a_handshake_at_once_is_not_lost(target: Server, home: str) -> None:
    with socket.create_connection((target.host, target.port), timeout=30) as connection:
        connection.sendall(HANDSHAKE.format(vm=home).encode() + frame(9, b"first") * 40 + frame(2, b"echo be''gun; exit\n"))
        received = b""
        while b"begun" not in received:
            received += connection.recv(65536)
        assert received.count(b"\x8a\x05first") == 40
    eventually(lambda: runs_in_flight(target) == 0)


def test_handshakes_that_vanish(target: Server, home: str) -> None:
    for i in range(40):
        connection = socket.create_connection((target.host, target.port), timeout=30)
        connection.sendall(HANDSHAKE.format(vm=home).encode()[:None if i % 2 else 40 + i])
        if i % 3 == 0:
            time.sleep(0.01)
        vanish(connection)
    eventually(lambda: runs_in_flight(target) == 0)
    eventually(lambda: "bash" not in target.run(home, "cat /proc/[0-9]*/comm")["stdout"])
