# SPDX-License-Identifier: Apache-2.0
"""Bodies and paths that are wrong: every wrong value in every field, driven by the server's own description; JSON that is none; paths
that want out; requests with a few bytes changed."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonschema
import pytest
from hypothesis import strategies

from tests.conftest import Agent
from tests.http.conftest import Server
from tests.http.hostile import HOST, LAST, Watch, exchange, post

OPTIONS = ("--max-body", "1", "--request-timeout", "1", "--idle-timeout", "5")  # of the server `target`


@pytest.fixture(autouse=True)
def watch(target: Server, home: str) -> Iterator[Watch]:
    """Nobody else notices, nothing stays, and no VM was made."""
    watched = Watch(target)
    yield watched
    watched.finish()
    assert [vm["id"] for vm in target.ask("GET", "/api/vms").json()["vms"]] == [home]


WRONG: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63 - 1, -2**63, 1.5, -0.5, 1e300, -1e300, "", " ", "1", "true", "none", "no such",
    "a" * 70000, "../..", "line\nbreak", "\u202e", "\U0001f4a3", "a=b", [], [None], [[]], [{}], ["A=1"], {}, {"": ""}, {"A": None},
    {"A": {"B": "C"}}, {"A B": "C"}, {"A=B": "C"}, {"path": "x"}, [{"path": "x", "content": "a", "content_base64": "YQ=="}],
    [{"path": "x", "content": 1}], [{"path": "x", "content": "", "mode": 1}], [{"path": "x", "content_base64": "="}],
]
BODIES = {"CreateVm": ("/api/vm", {"language": "python"}), "Run": ("/api/vm/HOME/run", {"command": "true"}),
          "Temp": ("/api/vm/temp", {"language": "python", "command": "true"})}


@pytest.mark.parametrize("schema", BODIES)
def test_every_wrong_value_in_every_field_is_refused_by_name(target: Server, home: str, schema: str) -> None:
    schemas = target.ask("GET", "/openapi.json").json()["components"]["schemas"]
    path, base = BODIES[schema]
    connection = target.connect()
    tried = 0
    for field, described in schemas[schema]["properties"].items():
        known = {**described, "components": {"schemas": schemas}}  # where its references lead
        for value in WRONG:
            if jsonschema.Draft202012Validator(known).is_valid(value):
                continue
            answer = target.ask("POST", path.replace("HOME", home), {**base, field: value}, connection=connection)
            error = answer.error(400, "invalid_argument")
            assert re.search(rf"\b{field}\b", error["details"]), (field, value, error)
            tried += 1
    connection.close()
    assert tried > 200 if schema != "Run" else tried > 100


@pytest.mark.parametrize("character", "é€\U0001f4a3")
def test_unknown_names_are_cut_between_characters(target: Server, character: str) -> None:
    """However long they are, and wherever they have to be cut: the answer is JSON."""
    for before in range(64):
        body = {"language": "python", **{f"{'a' * before}{i}{character * 300}": 1 for i in range(12)}}
        error = target.ask("POST", "/api/vm", body).error(400, "invalid_argument")
        assert "there is no such field" in error["details"] and "?" not in error["message"] + error["details"]


def nested(depth: int, opened: bytes = b"[", closed: bytes = b"]") -> bytes:
    """So many levels."""
    return opened * depth + b"1" + closed * depth


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"}", b"{}x", b"{}{}", b"[]", b"null", b"1", b'"a"', b"{'command':'true'}", b"{command:true}", b"\xef\xbb\xbf{}",
    b'{"command":"true",}', b'{"command":"true"/**/}', b'{"command":"true","command":"true"}', b'{"command":"\\ud800"}',
    b'{"command":"a\\u0000b"}', b'{"a\\u0000b":1}', b'{"command":"a\0b"}', b'{"command":"a\nb"}', b'{"command":"\xff\xfe"}',
    b'{"command":"\xc0\xae"}', b'{"command":"\xed\xa0\x80"}', b'{"command":"\xf4\x90\x80\x80"}', b'{"timeout":NaN}',
    b'{"timeout":Infinity}', b'{"timeout":1e999}', b'{"timeout":01}', b'{"timeout":+1}', b'{"timeout":.5}', b'{"timeout":0x10}',
    b'{"timeout":' + b"9" * 400 + b"}", b'{"timeout":99999999999999999999}', b'{"command":' + nested(100) + b"}",
    b'{"env":' + nested(100, b'{"a":', b"}") + b"}", nested(200000), b"[" * 500000, b'{"a":' * 100000, b"\0" * 1000,
    '{"command":"true"}'.encode("utf-16"), b'{"command":"' + b"\\" * 999,
], ids=lambda body: repr(body[:24]))
@pytest.mark.parametrize("path", ["/api/vm", "/api/vm/HOME/run", "/api/vm/temp"])
def test_json_that_is_none(target: Server, home: str, path: str, body: bytes) -> None:
    answer = target.ask("POST", path.replace("HOME", home), body, {"Content-Type": "application/json"})
    assert answer.error(400, "malformed")["details"]


@pytest.mark.parametrize("body", [{"command": "true", "env": {f"A{i}": "" for i in range(5000)}}, {f"f{i}": i for i in range(20000)},
                                  {"command": "true", "files": [{"path": f"f{i}", "content": ""} for i in range(2000)]},
                                  {"command": "true", "surprise\r\nX-Evil: 1": 1}, {"command": "true", "": 1}])
def test_too_many_of_everything(target: Server, home: str, body: dict[str, Any]) -> None:
    answer = target.ask("POST", f"/api/vm/{home}/run", body)
    answer.error(400, "invalid_argument")
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonp", "application/json-patch+json", "multipart/form-data; boundary=x",
                                  "application/x-www-form-urlencoded", "", "application/ json", "text/json"])
def test_other_types(target: Server, kind: str) -> None:
    for path in ("/api/vm", "/api/vm/temp"):
        target.ask("POST", path, b'{"language":"python"}', {"Content-Type": kind}).error(415, "not_json")


OUT = ["..", "%2e%2e", "%2E%2e", ".%2e", "%2e%2e%2f", "..%2f..%2f", "..%2F", "%252e%252e%252f", "%252e%252e", "%c0%ae%c0%ae",
       "%c0%ae%c0%ae%c0%af", "%e0%80%ae%e0%80%ae", "..%5c", "..\\", "....//", "..;", "%00", "..%00", "%", "%2", "%zz", "%u002e%u002e",
       "%2fetc", "/", ".", "%2e", "..%c0%af", "%f0%80%80%ae", "%ff", "~root", "proc%2fself%2fcwd", "%0d%0aX-Evil:%201", "\u2024\u2024"]


@pytest.mark.parametrize("dots", OUT)
def test_paths_that_want_out(target: Server, agent: Agent, home: str, dots: str) -> None:
    """What they find, if anything, is in the VM: the folder that is left for at last has no such name there."""
    marker = agent.state / "marker-of-the-host"
    marker.write_text("of the host")
    step = dots.encode() if dots.endswith(("/", "%2f", "%2F")) else dots.encode() + b"/"
    try:
        for start in (b"", b"workspace/"):
            for way in (step * 12 + bytes(marker)[1:], step * 6 + b"marker-of-the-host", step + b"etc/hostname"):
                request = b"GET /api/vm/" + home.encode() + b"/files/" + start + way + b" HTTP/1.1\r\n" + HOST
                answer = exchange(target, request + b"Connection: close\r\n\r\n")
                assert b"of the host" not in answer and b"\r\nX-Evil" not in answer
                ours = answer.endswith(b"\r\n\r\nx")  # to the VM it is a name as any other, and we wrote it there
                assert ours or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), answer
                answer = exchange(target, b"PUT" + request[3:-2] + b"\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
                assert answer.startswith(b"HTTP/1.1 ") and not answer.startswith(b"HTTP/1.1 5"), answer
                assert marker.read_text() == "of the host"
            answer = exchange(target, b"GET /api/vm/" + step + b"files/x HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), answer
    finally:
        marker.unlink()
    assert list(pathlib.Path("/").glob("etc/x")) == []


SEEDS = [b"GET /api/vms?limit=2&status=ready HTTP/1.1\r\n", b"GET /api/vm/HOME HTTP/1.1\r\n", b"POST /api/vm/HOME/run?stream=sse HTTP/1.1\r\n",
         b"PUT /api/vm/HOME/files/tmp/f?mode=644 HTTP/1.1\r\n", b"GET /api/vm/HOME/files/tmp/ HTTP/1.1\r\n"]
BODY = b'{"command":"true","env":{"A":"b"},"timeout":5,"files":[{"path":"a","content":"b"}]}'
HEADERS = HOST + b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"%00", b"/..", b"?", b"&", b"=", b"\xff", b"{", b'"', b"Content-Length: 1\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"0\r\n\r\n", b"9" * 30, b"[" * 40]


@hypothesis.settings(max_examples=1500, deadline=None, database=None, derandomize=True,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(seed=strategies.sampled_from(SEEDS), changes=strategies.lists(
    strategies.tuples(strategies.floats(0, 1), strategies.integers(0, 4), strategies.sampled_from(PIECES)), min_size=1, max_size=4))
def run_changed(target: Server, home: str, seed: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    """A request that was changed in a few places, and one after it; each answer is one."""
    data = bytearray(seed + HEADERS + BODY)
    for place, removed, added in changes:
        at = int(place * len(data))
        data[at:at + removed] = added
    answer = exchange(target, bytes(data).replace(b"HOME", home.encode()) + LAST)
    assert answer == b"" or re.match(rb"HTTP/1\.1 (100|200|201|4\d\d|505) ", answer), answer
    assert not re.search(rb'"status":50[03]', answer), answer


def test_requests_with_a_few_bytes_changed(target: Server, home: str) -> None:
    run_changed(target, home)


def test_the_smallest_request_is_still_answered(target: Server, home: str) -> None:
    """After all of that, a run is a run."""
    answer = exchange(target, post(f"/api/vm/{home}/run", json.dumps({"command": "echo $((6*7))"}).encode()) + LAST)
    assert b'"stdout":"42\\n"' in answer and answer.count(b"healthy") == 1
