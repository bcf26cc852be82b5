# SPDX-License-Identifier: Apache-2.0
"""The shell, by a client that is not ours (npm's ws), and by one that breaks the rules."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import eventually
from tests.http import npm
from tests.http.conftest import Server, until_it_stands_still
from tests.http.hostile import connect, connect_tls, memory_kib

CLIENT = pathlib.Path(__file__).parent / "shell_client.mjs"


@pytest.fixture(scope="module")
def packages() -> pathlib.Path:
    """Where ws is."""
    return npm.install("ws@8.18.0")


def shell(packages: pathlib.Path, server: Server, vm: str, steps: list[dict[str, Any]], query: str = "") -> dict[str, Any]:
    """Lets the client take its steps; how it closed, and what came."""
    scheme, env = "ws", {}
    if server.certificate is not None:
        scheme, env = "wss", {"NODE_EXTRA_CA_CERTS": str(server.certificate / "cert.pem")}
    url = f"{scheme}://{server.host}:{server.port}/api/vm/{vm}/shell{query}"
    done = subprocess.run(["node", CLIENT, packages, url, json.dumps(steps)], capture_output=True, timeout=60,
                          env={**os.environ, **env})
    assert done.returncode in (0, -9), done
    result = json.loads(done.stdout) if done.stdout else {}
    if "output" in result:
        result["output"] = base64.b64decode(result["output"])
    return dict(result)


def test_a_terminal(packages: pathlib.Path, server: Server, home: str) -> None:
    closed = shell(packages, server, home, [{"send": "stty -echo; tty; stty size; echo $((6*7))\n"}, {"await": "42"},
                                            {"resize": [111, 33]}, {"send": "stty size\n"}, {"await": "33 111"},
                                            {"send": "exit 5\n"}], "?cols=90&rows=20")
    assert closed["code"] == 1000 and json.loads(closed["reason"]) == {"exit_code": 5, "verdict": "exited"}
    assert b"/dev/pts/" in closed["output"] and b"20 90" in closed["output"]


def test_a_command_of_ones_own(packages: pathlib.Path, server: Server, home: str) -> None:
    closed = shell(packages, server, home, [{"await": "bytes"}], "?command=printf+'\\377\\000bytes';exit+3")
    assert closed["output"] == b"\xff\x00bytes" and json.loads(closed["reason"])["exit_code"] == 3


def test_ctrl_c_is_a_byte(packages: pathlib.Path, server: Server, home: str) -> None:
    command = "?command=trap+'echo+caught;exit+3'+INT;echo+begun;while+:;do+sleep+0.05;done"
    closed = shell(packages, server, home, [{"await": "begun"}, {"send": "\x03"}, {"await": "caught"}], command)
    assert json.loads(closed["reason"])["exit_code"] == 3


def test_much_output_and_much_input_arrive_whole(packages: pathlib.Path, server: Server, home: str) -> None:
    closed = shell(packages, server, home, [{"await": "over"}], "?command=seq+200000;echo+over")
    lines = closed["output"].decode().split("\r\n")
    assert lines[:200000] == [str(i + 1) for i in range(200000)]
    closed = shell(packages, server, home, [{"await": "ready"}, {"big": 900000}, {"await": "got"}],
                   "?command=stty+raw+-echo;echo+ready;head+-c+900000|md5sum;echo+got")
    import hashlib
    assert hashlib.md5(b"x" * 900000).hexdigest().encode() in closed["output"]


def lives(server: Server, vm: str, mark: str) -> bool:
    """Whether a process of this command line is in the VM."""
    command = f"for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -q '^sleep {mark}'"
    return bool(server.run(vm, command)["exit_code"] == 0)


@pytest.mark.parametrize("steps", [[{"close": 1000}], [{"vanish": True}]], ids=["closes", "vanishes"])
def test_nothing_outlives_its_client(packages: pathlib.Path, server: Server, home: str, steps: list[Any]) -> None:
    mark = "1234" if "close" in steps[0] else "4321"
    command = f"?command=echo+begun;(trap+''+HUP+TERM;+setsid+sleep+{mark})&+sleep+{mark}"
    closed = shell(packages, server, home, [{"await": "begun"}, *steps], command)
    assert closed.get("code", 1000) == 1000
    eventually(lambda: not lives(server, home, mark))


def test_what_breaks_the_rules_is_closed(packages: pathlib.Path, server: Server, home: str) -> None:
    assert shell(packages, server, home, [{"text": "hello"}])["code"] == 1003
    assert shell(packages, server, home, [{"resize": [0, 24]}])["code"] == 1003
    assert shell(packages, server, home, [{"big": 2_000_000}])["code"] == 1009
    assert shell(packages, server, "python-1", [])["status"] == 404
    assert shell(packages, server, home, [], "?cols=0")["status"] == 400


HANDSHAKE = ("GET /api/vm/{vm}/shell HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def open_raw(server: Server, vm: str) -> socket.socket:
    """A shell without a client library."""
    connection = (connect if server.tls is None else connect_tls)(server, receive=4096, timeout=20)
    connection.sendall(HANDSHAKE.format(vm=vm).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    assert b" 101 " in head and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, "the example of RFC 6455"
    return connection


def frame(opcode: int, payload: bytes, masked: bool = True, fin: bool = True) -> bytes:
    """One frame."""
    head = bytes([(0x80 if fin else 0) | opcode])
    flag = 0x80 if masked else 0
    head += bytes([flag | len(payload)]) if len(payload) < 126 else bytes([flag | 126]) + struct.pack("!H", len(payload))
    mask = os.urandom(4)
    return head + (mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if masked else payload)


@pytest.mark.parametrize("data", [
    frame(2, b"ls\n", masked=False), frame(3, b""), frame(11, b""), b"\xf2\x80aaaa", frame(8, b"\x00"),
    frame(9, b"p", fin=False), frame(0, b"goes on with nothing"), b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", os.urandom(4096),
], ids=["unmasked", "reserved", "control", "extension", "short-close", "split-ping", "stray", "endless", "noise"])
def test_frames_that_are_none(server: Server, home: str, data: bytes) -> None:
    with open_raw(server, home) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert server.ask("GET", "/health").status == 200


def test_a_ping_is_answered(server: Server, home: str) -> None:
    with open_raw(server, home) as connection:
        connection.sendall(frame(9, b"are you there"))
        received = b""
        while b"\x8a\x0dare you there" not in received:
            received += connection.recv(65536)


def test_without_an_upgrade(server: Server, home: str) -> None:
    answer = server.ask("GET", f"/api/vm/{home}/shell")
    answer.error(426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"


def test_a_reader_that_does_not_read_holds_its_command_back(server: Server, home: str, serve: Callable[..., Server]) -> None:
    """And fills nobody's memory."""
    own = serve()

    command = ("stty -echo; i=0; while :; do printf '%050000d' $i; i=$((i+1)); echo $i > /tmp/count; done\n")
    with open_raw(own, home) as connection:
        connection.sendall(frame(2, command.encode()))
        eventually(lambda: server.run(home, "test -s /tmp/count")["exit_code"] == 0)
        before = memory_kib(own)
        until_it_stands_still(server, home, "/tmp/count")
        assert memory_kib(own) - before < 4096


def test_the_last_output_is_not_kept(home: str, serve: Callable[..., Server], certificate: pathlib.Path) -> None:
    """What was fetched from the VM already is sent though nothing more comes from there, and before a ping would ask."""
    own = serve(certificate=certificate)  # with TLS there is less room on the way
    for lines in range(100000, 220000, 20000):
        head = HANDSHAKE.format(vm=home).replace("/shell", f"/shell?command=seq+{lines};echo+over;sleep+100")
        with connect_tls(own, timeout=10) as connection:
            connection.sendall(head.encode())
            received = b""
            while not received.endswith(b"over\r\n"):
                received += connection.recv(65536)
            assert f"{lines}\r\n".encode() in received
