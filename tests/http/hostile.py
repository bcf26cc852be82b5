# SPDX-License-Identifier: Apache-2.0
"""What the tests of hostile clients share: a server of their own, and somebody else who must not notice them."""

from __future__ import annotations

import http.client
import os
import pathlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import eventually
from tests.http.conftest import Server

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = HEALTH[:-2] + b"Connection: close\r\n\r\n"


class Bystander(threading.Thread):
    """Another client, whose every request must be answered while the server is beset."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.connection = server.connect(timeout=20)
        self.over = threading.Event()
        self.answers = 0
        self.trouble: list[object] = []

    def run(self) -> None:
        try:
            while not self.over.is_set() or self.answers == 0:
                self.connection.request("GET", "/health")
                response = self.connection.getresponse()
                if response.status != 200 or b"healthy" not in response.read():
                    self.trouble.append(response.status)
                self.answers += 1
                self.over.wait(0.01)
        except (OSError, http.client.HTTPException) as error:
            self.trouble.append(error)

    def finish(self) -> None:
        """Ends it, and fails the test when an answer was missing."""
        self.over.set()
        self.join(30)
        self.connection.close()
        assert not self.is_alive() and not self.trouble, self.trouble
        assert self.answers > 0


def descriptors(server: Server) -> int:
    """How many the server has open, without those of the store: each thread opens it when it is needed."""
    count = 0
    for entry in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            count += os.path.basename(os.readlink(entry)) not in ("state.db", "state.db-wal", "state.db-shm", "images")
        except FileNotFoundError:
            pass  # closed meanwhile
    return count


def memory_kib(server: Server) -> int:
    """What of the server is in memory."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def runs_in_flight(server: Server) -> int:
    """As its metrics say."""
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("agent_runs_in_flight "))


class Watch:
    """What a server had before, which it must have again when the clients are gone."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.ask("GET", "/health")
        self.before = descriptors(server)
        self.memory = memory_kib(server)
        self.bystander = Bystander(server)
        self.bystander.start()

    def finish(self, growth_kib: int = 16384) -> None:
        """Fails when somebody was not served, or something stayed. growth_kib: what the allocator may keep."""
        self.bystander.finish()
        assert self.server.process.poll() is None
        eventually(lambda: descriptors(self.server) <= self.before, 30)
        assert runs_in_flight(self.server) == 0
        assert memory_kib(self.server) - self.memory < growth_kib


@pytest.fixture(autouse=True)
def watch(target: Server) -> Iterator[Watch]:
    """Nobody else notices, and nothing stays: for all tests of a file that imports it."""
    watched = Watch(target)
    yield watched
    watched.finish()


def connect(server: Server, receive: int | None = None, timeout: float = 30) -> socket.socket:
    """A socket; receive: bytes that wait for a reader who does not read."""
    connection = socket.socket()
    connection.settimeout(timeout)
    if receive is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.connect((server.host, server.port))
    return connection


def connect_tls(server: Server, receive: int | None = None, timeout: float = 30) -> ssl.SSLSocket:
    """The same to a server that speaks TLS, with the handshake done."""
    return server.tls.wrap_socket(connect(server, receive, timeout), server_hostname=server.host)  # type: ignore[no-any-return]


def vanish(connection: socket.socket) -> None:
    """Ends a connection without a word: by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def rest(connection: socket.socket) -> bytes:
    """What comes until the server closes, by whatever means."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except (ConnectionError, ssl.SSLZeroReturnError):  # the latter is what the end is called when we said it, too
        pass
    return received


def exchange(server: Server, data: bytes) -> bytes:
    """Sends these bytes, of which the last make the server close; all that comes back."""
    with connect(server) as connection:
        try:
            connection.sendall(data)
        except OSError:  # it was cut off while it spoke
            pass
        return rest(connection)


def post(path: str, body: bytes, headers: bytes = b"") -> bytes:
    """A request with a body of JSON."""
    return (f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON + headers
            + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
