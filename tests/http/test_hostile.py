# SPDX-License-Identifier: Apache-2.0
"""Requests that are none, or that two programs would take for two different things: refused, and nothing after them is read."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.conftest import eventually
from tests.http.conftest import Server
from tests.http.hostile import HEALTH, HOST, JSON, LAST, connect, descriptors, exchange, post, rest
from tests.http.hostile import watch as watch  # a fixture

OPTIONS = ("--max-body", "1")  # of the server `target`


def head(*lines: bytes, start: bytes = b"POST /api/vm HTTP/1.1") -> bytes:
    """The head of a request, its lines ended as they should be."""
    return b"\r\n".join([start, HOST.rstrip(), JSON.rstrip(), *lines, b"", b""])


BODY = b"{}"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"
REFUSED = {
    "length and chunks": head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + CHUNKS,
    "chunks and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 4") + CHUNKS,
    "two lengths": head(b"Content-Length: 2", b"Content-Length: 3") + BODY,
    "a length twice": head(b"Content-Length: 2", b"Content-Length: 2") + BODY,
    **{f"length {value!r}": head(b"Content-Length: " + value) + BODY for value in (
        b"2, 2", b"+2", b"-2", b"0x2", b"2;", b"1e1", b"2 3", b"", b"99999999999999999999999", b"18446744073709551616",
        b"\xd9\xa2")},
    **{f"encoding {value!r}": head(b"Transfer-Encoding: " + value) + CHUNKS for value in (
        b"xchunked", b"chunked, identity", b"gzip, chunked", b"identity", b"chunked;q=1", b'"chunked"', b"chunked ",
        b"\x0bchunked", b"")},
    "two encodings": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + CHUNKS,
    "a space before the colon": head(b"Transfer-Encoding : chunked", b"Content-Length: 2") + BODY,
    "a length with a space before the colon": head(b"Content-Length : 2") + BODY,
    "an encoding on a folded line": head(b"Transfer-Encoding:", b" chunked") + CHUNKS,
    "an encoding folded into a value": head(b"Content-Length: 2", b"X: a", b"\tTransfer-Encoding: chunked", b" ,\x01") + BODY,
    "an encoding after a bare LF": head(b"Content-Length: 2", b"X: y\nTransfer-Encoding: chunked") + BODY,
    "an encoding after a bare CR": head(b"Content-Length: 2", b"X: y\rTransfer-Encoding: chunked") + BODY,
    "a bare CR": head(b"X: a\rY: b", start=b"GET /health HTTP/1.1"),
    "a control character": head(b"X: a\x01b", start=b"GET /health HTTP/1.1"),
    "a NUL in a name": head(b"X\0Y: a", start=b"GET /health HTTP/1.1"),
    "no colon": head(b"nothing", start=b"GET /health HTTP/1.1"),
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a space after Host": b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a folded Host": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "another host": b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "two keys": head(b"Authorization: Bearer a", b"Authorization: Bearer b", start=b"GET /health HTTP/1.1"),
    **{f"target {value!r}": head(start=b"GET " + value + b" HTTP/1.1") for value in (
        b"http://localhost/health", b"http://evil.example/health", b"localhost:80", b"*", b"/hea lth",
        b"/hea\x01lth", b"/hea\x7flth", b"/health#x", b"health")},
    "authority": head(start=b"CONNECT localhost:80 HTTP/1.1"),
    "of HTTP/0.9": b"GET /health\r\n",
    "of HTTP/0.9, by name": b"GET /health HTTP/0.9\r\n\r\n",
    "of HTTP/2": b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "of another protocol": b"GET /health HTPP/1.1\r\n" + HOST + b"\r\n",
    "a word too many": b"GET /health HTTP/1.1 x\r\n" + HOST + b"\r\n",
    **{f"chunks {value[:12]!r}": head(b"Transfer-Encoding: chunked") + value for value in (
        b"0x2\r\n{}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"2\r\n{}X\r\n0\r\n\r\n", b"G\r\n{}\r\n0\r\n\r\n", b"\r\n{}\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n")},
    "a header of 20000 bytes": head(b"X: " + b"a" * 20000, start=b"GET /health HTTP/1.1"),
    "3000 headers": head(*(b"X%d: a" % i for i in range(3000)), start=b"GET /health HTTP/1.1"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_and_nothing_after_it_is_read(target: Server, data: bytes) -> None:
    answer = exchange(target, data + LAST)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505 ")), answer
    assert b"healthy" not in answer, "what followed was taken for a request"
    if b"application/json" in answer:
        assert b'"code":"' in answer and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [b"/health/", b"//health", b"//evil.example/../health", b"/HEALTH", b"/health%2f"])
def test_another_path_is_another_path(target: Server, path: bytes) -> None:
    answer = exchange(target, head(start=b"GET " + path + b" HTTP/1.1") + LAST)
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.count(b"HTTP/1.1 ") == 2 and answer.count(b"healthy") == 1, answer


UNFINISHED = {
    "a chunk without end": head(b"Transfer-Encoding: chunked") + b"7FFFFFFFFFFFFFFF\r\n{}",
    "a chunk of all there is": head(b"Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
    "a body that ends before its length": head(b"Content-Length: 200") + BODY,
    "half a chunk": head(b"Transfer-Encoding: chunked") + b"2\r\n{",
    "an extension without end": head(b"Transfer-Encoding: chunked") + b"2;" + b"a" * 20000,
    "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
    "a target of 20000 bytes": head(start=b"GET /" + b"a" * 20000 + b" HTTP/1.1"),
    "no method": b" /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "tabs": b"GET\t/health\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "nothing": b"",
    "the hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500 + b"\r\n\r\n",
    "noise": bytes(range(256)) * 16,
}


@pytest.mark.parametrize("ended", [True, False], ids=["half-closed", "open"])
def test_what_is_no_request_is_cut_when_its_time_is_over(serve: Callable[..., Server], ended: bool) -> None:
    own = serve("--request-timeout", "1", "--idle-timeout", "1")
    before = descriptors(own)
    waiting = [(name, connect(own)) for name in UNFINISHED]
    for name, connection in waiting:
        try:
            connection.sendall(UNFINISHED[name])
            if ended:
                connection.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone already
            pass
    for name, connection in waiting:
        with connection:
            answer = rest(connection)
        assert b" 200 OK" not in answer and b" 201 " not in answer and b" 100 " not in answer, (name, answer)
    eventually(lambda: descriptors(own) == before)


TAKEN = {
    "chunks": head(b"Transfer-Encoding: chunked") + CHUNKS,
    "chunks, in capitals": head(b"TRANSFER-ENCODING: CHUNKED") + CHUNKS,
    "chunks with extensions": head(b"Transfer-Encoding: chunked") + b"2;ext=1\r\n{}\r\n0;x\r\n\r\n",
    "trailers, which change nothing": head(b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
    "a long zero": head(b"Transfer-Encoding: chunked") + b"00000000000000000002\r\n{}\r\n00\r\n\r\n",
    "a length after spaces": head(b"Content-Length:   2") + BODY,
    "a method in a header": head(b"Content-Length: 2", b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method: GET") + BODY,
    "what to expect": head(b"Expect: 200-maybe", b"Content-Length: 2") + BODY,
    "an empty line first": b"\r\n" + head(b"Content-Length: 2") + BODY,
}


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN.keys())
def test_its_end_is_where_it_says(target: Server, data: bytes) -> None:
    answer = exchange(target, data + LAST)
    assert answer.count(b"HTTP/1.1 ") == 2 and answer.count(b"healthy") == 1, answer
    assert answer.startswith(b"HTTP/1.1 400 ") and b"language" in answer


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH", "PUT", "FOO", "get", "head", "G@T", "A" * 3000])
def test_other_methods(target: Server, method: str) -> None:
    answer = exchange(target, f"{method} /health HTTP/1.1\r\nCookie: secret\r\nConnection: close\r\n".encode()
                      + HOST + b"Content-Length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET, HEAD\r\n" in answer
    assert b"secret" not in answer, "nothing is echoed"


def test_a_head_has_no_body_that_could_be_taken_for_an_answer(target: Server) -> None:
    for status, path in ((b"200", b"/health"), (b"404", b"/nowhere"), (b"405", b"/api/vm")):
        answer = exchange(target, b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
        first, _, second = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 " + status) and second.startswith(b"HTTP/1.1 200 "), answer


def test_a_body_that_nobody_asked_for_is_no_request(target: Server) -> None:
    answer = exchange(target, b"GET /health HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(HEALTH) + HEALTH + LAST)
    assert answer.count(b"healthy") == 2


def test_requests_in_a_row_are_answered_in_their_order(target: Server, vm: str) -> None:
    run = post(f"/api/vm/{vm}/run", b'{"command":"sleep 0.3; echo slow"}')
    answer = exchange(target, (run + HEALTH) * 3 + HEALTH * 199 + LAST)
    assert answer.count(b"HTTP/1.1 200 ") == 206
    order = [answer.find(b"slow"), answer.find(b"healthy"), answer.find(b"slow", answer.find(b"healthy"))]
    assert -1 not in order and order == sorted(order)


def test_a_client_is_told_to_go_on_or_why_not(target: Server) -> None:
    expects = b"Expect: 100-continue"
    with connect(target) as connection:
        connection.sendall(head(expects, b"Content-Length: 2"))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    with connect(target) as connection:
        connection.sendall(head(expects, b"Content-Length: 2000000"))
        assert rest(connection).startswith(b"HTTP/1.1 413 "), "and no 100 before it"
    with connect(target) as connection:
        connection.sendall(b"POST /api/vm HTTP/1.1\r\n" + HOST + expects + b"\r\nContent-Length: 2\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 415 ")


def test_a_client_that_says_that_it_said_all_is_answered_and_let_go(target: Server) -> None:
    for requests in (1, 20):
        with connect(target) as connection:
            connection.sendall(HEALTH * requests)
            connection.shutdown(socket.SHUT_WR)
            assert rest(connection).count(b"healthy") == requests, "and not after the time for idle connections"


@pytest.mark.parametrize("coded", [b"Content-Length: 3000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_too_much(target: Server, coded: bytes) -> None:
    body = b"x" * 3000000 if b"Length" in coded else (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 46 + b"0\r\n\r\n"
    answer = exchange(target, head(coded) + body + LAST)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 "), answer[:200]


def test_the_log_has_a_line_for_each_and_none_that_a_client_made(target: Server) -> None:
    exchange(target, head(start=b'GET /"},{"level":"fatal\\ HTTP/1.1') + LAST)
    exchange(target, head(start=b"GET /\xff\xfe\x1b[31m HTTP/1.1"))

    def logged() -> bool:
        lines = target.log_lines()  # each is JSON, or this fails
        return any("fatal" in line.get("path", "") for line in lines)

    eventually(logged)
    assert all(line["level"] != "fatal" for line in target.log_lines())


def test_connections_beyond_the_limit(serve: Callable[..., Server]) -> None:
    own = serve("--max-connections", "40")
    held = [connect(own) for _ in range(40)]
    for connection in held:
        connection.sendall(HEALTH)
        assert b"200 OK" in connection.recv(4096)
    more = [connect(own) for _ in range(100)]
    for connection in more:  # closed, or not taken: the ones that are in go on
        connection.settimeout(0.01)
        try:
            connection.sendall(HEALTH)
            assert b"200 OK" not in connection.recv(4096)
        except OSError:
            pass
    for connection in held:
        connection.sendall(HEALTH)
        assert b"200 OK" in connection.recv(4096)
    for connection in held + more:
        connection.close()
    eventually(lambda: b"200 OK" in exchange(own, LAST))
