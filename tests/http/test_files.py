# SPDX-License-Identifier: Apache-2.0
"""Files of a VM by HTTP: in, out, lists, away; and paths that are none."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, eventually
from tests.http.conftest import Server


def files(vm: str, path: str) -> str:
    """The path of a file in a VM."""
    return f"/api/vm/{vm}/files/{path}"


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 256 * 1024 + 1, 20_000_000])
def test_a_file_comes_back_as_it_went_in(server: Server, home: str, size: int) -> None:
    content = os.urandom(size)
    path = files(home, f"workspace/out/size-{size}")
    written = server.ask("PUT", path, content)
    assert written.status == 201 and written.json() == {"status": "written", "vm_id": home, "size": size}
    told = server.run(home, f"md5sum < out/size-{size}; stat -c %a out/size-{size}")["stdout"]
    assert told == f"{hashlib.md5(content).hexdigest()}  -\n644\n"
    answer = server.ask("GET", path)
    assert answer.status == 200 and answer.headers["Content-Length"] == str(size)
    assert answer.body == content
    assert server.ask("DELETE", path).json()["status"] == "deleted"
    server.ask("GET", path).error(404, "file_not_found")
    server.ask("DELETE", path).error(404, "file_not_found")


def test_a_large_file_is_not_held_in_memory(serve: Callable[..., Server], home: str) -> None:
    """64 MiB in and out, in pieces: the server grows by a few of its own buffers."""
    own = serve()
    piece = os.urandom(1 << 20)
    digest = hashlib.md5()

    def memory() -> int:
        status = pathlib.Path(f"/proc/{own.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def pieces() -> Iterator[bytes]:
        for i in range(64):
            digest.update(piece[i:] + piece[:i])
            yield piece[i:] + piece[:i]

    before = memory()
    connection = own.connect()
    connection.request("PUT", files(home, "workspace/large"), pieces(), {"Content-Length": str(64 << 20)})
    assert connection.getresponse().read() and memory() - before < 4096
    connection.request("GET", files(home, "workspace/large"))
    response = connection.getresponse()
    back = hashlib.md5()
    while data := response.read(1 << 16):
        back.update(data)
    connection.close()
    own.ask("DELETE", files(home, "workspace/large"))
    assert back.digest() == digest.digest() and memory() - before < 4096


def test_folders_that_lead_there_are_made(server: Server, home: str) -> None:
    assert server.ask("PUT", files(home, "workspace/a%20b/c/%C3%A9?mode=755"), b"#!/bin/sh\necho ran\n").status == 201
    assert server.run(home, "'./a b/c/é'")["stdout"] == "ran\n"
    listed = server.ask("GET", files(home, "workspace/a%20b/c/")).json()
    assert listed == {"path": "/workspace/a b/c", "count": 1, "truncated": False,
                      "entries": [{"name": "é", "type": "file", "size": 19, "mode": "0755"}]}
    server.run(home, "cd 'a b'; ln -s c/é link; mkdir sub; mkfifo pipe; touch \"$(printf 'b\\377d')\"")
    entries = {entry.get("name"): entry for entry in server.ask("GET", files(home, "workspace/a%20b")).json()["entries"]}
    assert {name: entry["type"] for name, entry in entries.items()} == \
        {"c": "folder", "sub": "folder", "link": "link", None: "file"}
    assert entries[None]["name_base64"] == "Yv9k"
    assert server.ask("GET", files(home, "workspace/a%20b/link")).body == b"#!/bin/sh\necho ran\n", "links are followed"
    server.ask("GET", files(home, "workspace/a%20b/pipe")).error(409, "copy_failed")
    assert server.ask("DELETE", files(home, "workspace/a%20b/c")).status == 200
    assert server.run(home, "ls 'a b/c'")["exit_code"] != 0
    assert server.ask("DELETE", files(home, "workspace/a%20b/link")).status == 200, "also one that leads nowhere"


def test_the_root_is_a_folder(server: Server, home: str) -> None:
    names = {entry["name"] for entry in server.ask("GET", files(home, "")).json()["entries"]}
    assert {"workspace", "usr", "tmp"} <= names
    server.ask("PUT", files(home, ""), b"x").error(400, "invalid_argument")
    server.ask("DELETE", files(home, "")).error(400, "invalid_argument")


@pytest.mark.parametrize("path", [
    "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc/passwd", "workspace/%2e%2e/etc/passwd",
    "workspace/x%00.txt", "workspace/%zz", "workspace//x", "workspace/./x", "%2fetc%2fpasswd", "a" * 300,
])
def test_paths_that_are_none(server: Server, home: str, path: str) -> None:
    for method, body in (("GET", None), ("PUT", b"x"), ("DELETE", None)):
        server.ask(method, files(home, path), body).error(400, "invalid_argument")


def test_a_link_of_the_guest_leads_nowhere_on_the_host(server: Server, home: str) -> None:
    server.run(home, "ln -sf /proc/1/root/etc/hostname escape; ln -sfn / up")
    inside = server.run(home, "cat /etc/hostname")["stdout"]
    assert server.ask("GET", files(home, "workspace/up/etc/hostname")).body.decode() == inside
    server.ask("GET", files(home, "workspace/escape")).error(409, "copy_failed")
    server.ask("PUT", files(home, "workspace/up/etc/planted"), b"x")
    assert not os.path.exists("/etc/planted")


def test_what_does_not_fit_is_refused_at_once(server: Server, home: str) -> None:
    size = 300 << 20
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(f"PUT {files(home, 'workspace/big')} HTTP/1.1\r\nHost: localhost\r\n"
                           f"Content-Length: {size}\r\n\r\n".encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"file_too_large"' in answer
    server.ask("PUT", files(home, "workspace/x"), None, {"Transfer-Encoding": "chunked"}).error(411, "length_required")
    server.ask("PUT", files(home, "workspace/x?mode=9"), b"x").error(400, "invalid_argument")
    server.ask("PUT", files("python-1", "x"), b"x").error(404, "vm_not_found")


def test_half_a_file_is_none(server: Server, home: str) -> None:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(f"PUT {files(home, 'workspace/half/file')} HTTP/1.1\r\nHost: localhost\r\n"
                           "Content-Length: 1000000\r\n\r\n".encode() + b"x" * 500000)
        eventually(lambda: server.run(home, "ls -A half | grep -q part")["exit_code"] == 0)
    eventually(lambda: server.run(home, "test -d half && ls -A half")["stdout"] == "")


def test_a_stopped_vm_is_started(agent: Agent, server: Server) -> None:
    vm = server.create(persist=True, disk_mib=16)
    try:
        assert server.ask("PUT", files(vm, "workspace/persist/note"), b"kept").status == 201
        server.ask("POST", f"/api/vm/{vm}/stop")
        assert server.ask("GET", files(vm, "workspace/persist/note")).body == b"kept"
    finally:
        agent.clean(vm)


def test_a_folder_of_very_many_names_is_cut(server: Server, home: str) -> None:
    server.run(home, "mkdir many; cd many; seq 10001 | xargs touch")
    answer = server.ask("GET", files(home, "workspace/many"))
    listed = json.loads(answer.body)
    assert listed["truncated"] and listed["count"] == len(listed["entries"]) == 10000
    assert server.ask("DELETE", files(home, "workspace/many")).status == 200
