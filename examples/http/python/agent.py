#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP API from Python, with nothing but its standard library.

Usage: [AGENT_URL=http://127.0.0.1:8787] [AGENT_API_KEY=…] agent.py
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

URL = os.environ.get("AGENT_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("AGENT_API_KEY", "none")


class AgentError(Exception):
    """What the server refused: .code is for programs, the text for people."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(f"{body['message']} {body.get('details', '')}".strip())
        self.code = body["code"]


def request(method: str, path: str, body: Any = None) -> Any:
    """An open response. A body that is not bytes is sent as JSON."""
    headers = {"Authorization": f"Bearer {KEY}"}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        return urllib.request.urlopen(urllib.request.Request(URL + path, body, headers, method=method))
    except urllib.error.HTTPError as error:
        raise AgentError(json.load(error)) from None


def call(method: str, path: str, body: Any = None) -> Any:
    """An answer as JSON."""
    with request(method, path, body) as response:
        return json.load(response)


def stream(vm: str, command: str) -> Iterator[tuple[str, Any]]:
    """A run's events as they come: ("stdout", bytes), ("stderr", bytes), at last ("exit", result)."""
    with request("POST", f"/api/vm/{vm}/run?stream=sse", {"command": command}) as response:
        name = ""
        for line in response:
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                yield name, base64.b64decode(value) if name.startswith("std") else json.loads(value)


def main() -> None:
    """A VM, a command with a file, a stream, a file out, an error."""
    vm = call("POST", "/api/vm", {"language": "python"})["id"]
    try:
        program = {"path": "hello.py", "content": "print(6 * 7)"}
        print(call("POST", f"/api/vm/{vm}/run", {"command": "python3 hello.py", "files": [program]})["stdout"], end="")
        for name, data in stream(vm, "for i in 1 2 3; do echo $i; sleep 0.2; done"):
            print(name, data)
        call("PUT", f"/api/vm/{vm}/files/workspace/in/note", b"some bytes")
        with request("GET", f"/api/vm/{vm}/files/workspace/in/note") as response:
            print(response.read())
        call("POST", f"/api/vm/{vm}/run", {"command": "true", "timeout": -1})
    except AgentError as error:
        print(f"{error.code}: {error}")
    finally:
        call("DELETE", f"/api/vm/{vm}")


if __name__ == "__main__":
    main()
