# SPDX-License-Identifier: Apache-2.0
"""A server for the tests, and a client that is http.client with JSON around it."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import os
import signal
import pathlib
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Agent, eventually


@dataclasses.dataclass
class Answer:
    """An answer of the server."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Its body as JSON."""
        assert self.headers["Content-Type"] == "application/json", self
        return json.loads(self.body)

    def error(self, status: int, code: str) -> dict[str, Any]:
        """The error that it is, in the form that all errors have."""
        assert self.status == status, self
        body = self.json()
        assert body["code"] == code and body["status"] == status and body["error"] and body["message"], body
        assert set(body) <= {"error", "code", "status", "message", "details"}
        return dict(body)


def events(stream: Any) -> Iterator[tuple[str, Any]]:
    """The server-sent events of a response that is read as it comes: (name, bytes or result)."""
    name = ""
    for line in stream:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            name = text[7:]
        elif text.startswith("data: "):
            data = text[6:]
            yield name, base64.b64decode(data, validate=True) if name.startswith("std") else json.loads(data)


class Server:
    """`agent serve`, on a port that it chose."""

    def __init__(self, agent: Agent, *args: str, env: dict[str, str] | None = None, listen: str = "127.0.0.1:0",
                 certificate: pathlib.Path | None = None, **kwargs: Any) -> None:
        self.agent = agent
        self.certificate = certificate
        self.tls: Any = None  # what its clients know of it, when it has a certificate
        if certificate is not None:
            self.tls = ssl.create_default_context(cafile=certificate / "cert.pem")
            args = ("--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem"), *args)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [agent.program, "serve", "--listen", listen, *args], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.log, env={**agent.env, **(env or {})}, **kwargs)
        line = self.wait_for_log("listening")
        self.address = str(line["address"])
        host, _, port = self.address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        text = os.pread(self.log.fileno(), 1 << 26, 0)
        return [json.loads(line) for line in text.decode().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_log(self, message: str, **fields: Any) -> dict[str, Any]:
        """The first line with this message and these fields; its file has no end to wait at."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.log_lines() if line.get("message", "").startswith(message)
                        and fields.items() <= line.items()]
            assert found or self.process.poll() is None, self.log_lines()
            return bool(found)

        eventually(look)
        return found[0]

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """A connection of its own."""
        if self.tls is not None:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None,
            connection: http.client.HTTPConnection | None = None) -> Answer:
        """One request. A body that is not bytes is sent as JSON."""
        used = connection or self.connect()
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        used.request(method, path, body=body, headers=sent)
        response = used.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if connection is None:
            used.close()
        return answer

    def raw(self, data: bytes, timeout: float = 20) -> bytes:
        """Sends bytes as they are, and reads until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
            connection.sendall(data)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    def create(self, **fields: Any) -> str:
        """A VM's id."""
        answer = self.ask("POST", "/api/vm", {"language": "python", **fields})
        assert answer.status == 201, answer
        return str(answer.json()["id"])

    def run(self, vm: str, command: str, **fields: Any) -> dict[str, Any]:
        """A command's result."""
        answer = self.ask("POST", f"/api/vm/{vm}/run", {"command": command, **fields})
        assert answer.status == 200, answer
        return dict(answer.json())

    def stop(self, signo: int = signal.SIGTERM) -> int:
        """Ends it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signo)
        status = self.process.wait(timeout=60)
        return status


def until_it_stands_still(server: Server, vm: str, path: str) -> str:
    """Until what a command counts in a file of the VM counts no more: all buffers on its way are full. The count."""
    counts: list[str] = []

    def still() -> bool:
        counts.append(server.run(vm, f"sleep 0.05; cat {path}")["stdout"])
        return counts[-1] != "" and len(counts) > 4 and len(set(counts[-4:])) == 1

    eventually(still, 40)
    return counts[-1]


@pytest.fixture(scope="session")
def server(agent: Agent) -> Iterator[Server]:
    """A server without keys, for all tests that change nothing of it."""
    started = Server(agent)
    yield started
    assert started.stop() == 0, started.log_lines()[-5:]


@pytest.fixture(scope="module")
def target(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of their own for the tests of a file, with its OPTIONS."""
    started = Server(agent, *getattr(request.module, "OPTIONS", ()))
    yield started
    assert started.stop() == 0, started.log_lines()[-5:]


@pytest.fixture(scope="module")
def home(server: Server, agent: Agent) -> Iterator[str]:
    """A VM for all tests of a file, which use names of their own."""
    vm = server.create(memory_mib=512)
    yield vm
    agent.clean(vm)


@pytest.fixture
def serve(agent: Agent) -> Iterator[Callable[..., Server]]:
    """Starts servers that are ended with the test."""
    started: list[Server] = []

    def start(*args: str, **kwargs: Any) -> Server:
        started.append(Server(kwargs.pop("agent", agent), *args, **kwargs))
        return started[-1]

    yield start
    for one in started:
        one.stop(signal.SIGKILL)


def make_certificate(folder: pathlib.Path) -> pathlib.Path:
    """Puts cert.pem and key.pem, for 127.0.0.1, into a folder."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a certificate."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
