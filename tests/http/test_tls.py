# SPDX-License-Identifier: Apache-2.0
"""The server's own TLS: all that there is without it; and clients that break its rules, stop, and vanish."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, eventually
from tests.http import npm
from tests.http.conftest import Answer, Server, events, make_certificate, until_it_stands_still
from tests.http.hostile import HEALTH, LAST, connect, connect_tls, memory_kib, post, rest, runs_in_flight, vanish
from tests.http.hostile import watch as watch  # a fixture
from tests.http.test_shell import lives, shell


@pytest.fixture(scope="module")
def target(agent: Agent, certificate: pathlib.Path) -> Iterator[Server]:
    """A server of their own, with TLS."""
    started = Server(agent, "--request-timeout", "5", certificate=certificate)
    yield started
    assert started.stop() == 0, started.log_lines()[-5:]


def test_requests(target: Server, home: str) -> None:
    assert target.ask("GET", "/health").json()["status"] == "healthy"
    assert target.run(home, "seq 100000 | tail -1")["stdout"] == "100000\n"
    own_page = {"Origin": f"https://localhost:{target.port}", "Host": f"localhost:{target.port}"}
    assert target.ask("GET", "/api/vms", headers=own_page).status == 200
    target.ask("GET", "/api/vms", headers={**own_page, "Origin": own_page["Origin"].replace("https", "http")}).error(
        403, "origin_refused")
    line = target.wait_for_log("request", path="/health", status=200)
    assert line["client"].startswith("127.0.0.1:"), "the client's address, and not that of our own end"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(target: Server, version: ssl.TLSVersion, certificate: pathlib.Path) -> None:
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(connect(target), server_hostname=target.host) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(HEALTH + LAST)
        assert rest(connection).count(b"healthy") == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the constants: that they are old is the point
def test_old_versions_are_not_spoken(target: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with connect(target) as connection, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(connection)


def test_who_forgets_the_s_of_https_is_told(target: Server) -> None:
    with contextlib.closing(http.client.HTTPConnection(target.host, target.port, timeout=30)) as connection:
        connection.request("POST", "/api/vm", b"{}" * 100000, {"Content-Type": "application/json"})
        response = connection.getresponse()
        Answer(response.status, response.headers, response.read()).error(400, "tls_expected")


def test_a_shell(target: Server, home: str) -> None:
    packages = npm.install("ws@8.18.0")
    closed = shell(packages, target, home, [{"send": "stty -echo; stty size; echo $((6*7))\n"}, {"await": "42"},
                                            {"resize": [111, 33]}, {"send": "stty size\n"}, {"await": "33 111"},
                                            {"send": "exit 5\n"}], "?cols=90&rows=20")
    assert closed["code"] == 1000 and json.loads(closed["reason"]) == {"exit_code": 5, "verdict": "exited"}
    closed = shell(packages, target, home, [{"await": "over"}], "?command=seq+200000;echo+over")
    assert closed["output"].decode().split("\r\n")[:200000] == [str(i + 1) for i in range(200000)]
    closed = shell(packages, target, home, [{"await": "ready"}, {"big": 900000}, {"await": "got"}],
                   "?command=stty+raw+-echo;echo+ready;head+-c+900000|md5sum;echo+got")
    assert hashlib.md5(b"x" * 900000).hexdigest().encode() in closed["output"]
    assert shell(packages, target, home, [{"big": 2_000_000}])["code"] == 1009, "why it is closed comes before the end"
    for step in ({"close": 1000}, {"vanish": True}):
        shell(packages, target, home, [{"await": "begun"}, step], "?command=echo+begun;sleep+5432")
        eventually(lambda: not lives(target, home, "5432"))


def test_a_large_file_is_not_held_in_memory(target: Server, home: str) -> None:
    size, piece, digest = 64 << 20, os.urandom(1 << 20), hashlib.md5()

    def pieces() -> Iterator[bytes]:
        for i in range(size >> 20):
            digest.update(piece[i:] + piece[:i])
            yield piece[i:] + piece[:i]

    path = f"/api/vm/{home}/files/workspace/large"
    before = memory_kib(target)
    with contextlib.closing(target.connect()) as connection:
        connection.request("PUT", path, pieces(), {"Content-Length": str(size)})
        response = connection.getresponse()
        assert response.status == 201 and json.loads(response.read())["size"] == size
        connection.request("GET", path)
        response = connection.getresponse()
        received = hashlib.md5()
        while data := response.read(1 << 20):
            received.update(data)
            assert memory_kib(target) - before < 16384
    assert received.digest() == digest.digest()
    assert target.ask("DELETE", path).status == 200


def does_not_spin(server: Server) -> bool:
    """Who waits takes no time of the CPU."""

    def ticks() -> int:
        return sum(map(int, pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    before = ticks()
    time.sleep(0.5)
    return ticks() - before < 0.25 * os.sysconf("SC_CLK_TCK")


def test_a_slow_reader_holds_the_command_back(target: Server, home: str) -> None:
    count = 200
    command = f"for i in $(seq {count}); do printf '%050000d' $i; echo $i > /tmp/slow; done"
    with connect_tls(target, receive=32768) as connection:
        before = memory_kib(target)
        connection.sendall(post(f"/api/vm/{home}/run?stream=sse", json.dumps({"command": command, "timeout": 600}).encode()))
        assert int(until_it_stands_still(target, home, "/tmp/slow")) < count and memory_kib(target) - before < 4096
        assert does_not_spin(target)
        response = http.client.HTTPResponse(connection)
        response.begin()
        received = list(events(response))
        output = b"".join(data for name, data in received if name == "stdout")
        assert len(output) == 50000 * count and received[-1][0] == "exit" and received[-1][1]["exit_code"] == 0


def test_a_sender_is_read_no_faster_than_it_is_heard(target: Server) -> None:
    with connect_tls(target) as connection:
        before = memory_kib(target)
        connection.settimeout(0.5)
        flood = HEALTH * 1000
        sent = 0
        with contextlib.suppress(OSError):  # a timeout: nobody takes it, for nobody takes the answers
            while sent < 200_000_000:
                sent += connection.send(flood)
        assert sent < 100_000_000 and memory_kib(target) - before < 4096 and does_not_spin(target)
        vanish(connection)


def half_close(connection: ssl.SSLSocket) -> None:
    """Says by close_notify that nothing more comes."""
    connection.setblocking(False)
    with contextlib.suppress(ssl.SSLError):  # it does not want to wait for the other side's
        connection.unwrap()
    connection.settimeout(30)


def cut_half(connection: ssl.SSLSocket) -> None:
    """The same without a word: by the end of the stream."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("end", [half_close, cut_half])
def test_a_client_that_says_that_it_said_all_is_answered_and_let_go(target: Server, end: Callable[..., None]) -> None:
    for requests in (1, 20):
        with connect_tls(target) as connection:
            connection.sendall(HEALTH * requests)
            end(connection)
            answer = rest(connection)
            assert answer.count(b"healthy") == requests, answer


@pytest.mark.parametrize("end", [half_close, cut_half, vanish])
def test_a_stream_ends_with_its_client(target: Server, home: str, end: Callable[..., None]) -> None:
    connection = connect_tls(target)
    connection.sendall(post(f"/api/vm/{home}/run?stream=sse", b'{"timeout":600,"command":"sleep 6543"}'))
    assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    eventually(lambda: lives(target, home, "6543"))
    end(connection)
    eventually(lambda: not lives(target, home, "6543"))
    connection.close()


def test_idle_connections_cost_little(target: Server) -> None:
    threads = len(os.listdir(f"/proc/{target.process.pid}/task"))
    before = memory_kib(target)
    idle = [connect_tls(target) for _ in range(200)]
    for _ in range(2):
        for connection in idle:
            connection.sendall(HEALTH)
        for connection in idle:
            assert b"healthy" in connection.recv(4096)
    assert len(os.listdir(f"/proc/{target.process.pid}/task")) == threads
    assert memory_kib(target) - before < 200 * 64
    for connection in idle:
        connection.close()


def test_who_is_one_too_many_waits_until_somebody_leaves(serve: Callable[..., Server], certificate: pathlib.Path) -> None:
    own = serve("--max-connections", "20", certificate=certificate)
    held = [connect_tls(own) for _ in range(20)]
    with connect(own, timeout=0.5) as waiting, pytest.raises(TimeoutError):
        own.tls.wrap_socket(waiting, server_hostname=own.host)
    held.pop().close()
    with connect_tls(own) as connection:
        connection.sendall(LAST)
        assert b"healthy" in rest(connection)
    for connection in held:
        connection.sendall(LAST)
        assert b"healthy" in rest(connection)
        connection.close()


def read_until_logged(server: Server, connection: ssl.SSLSocket, path: str) -> bytes:
    """Reads until the server is done with a request; the rest is on its way."""
    received = b""
    while not any(line.get("path") == path for line in server.log_lines()):
        received += connection.recv(65536)
    return received


def test_an_answer_that_was_given_arrives_though_the_server_ends(
        serve: Callable[..., Server], certificate: pathlib.Path, home: str) -> None:
    """To the HTTP library it is sent, and to the client a part of it."""
    own = serve(certificate=certificate)
    command = "until [ -e /tmp/end ]; do sleep 0.02; done; rm /tmp/end; head -c 3000000 /dev/zero | tr '\\0' '#'"
    with connect_tls(own, receive=65536) as connection:
        connection.sendall(post(f"/api/vm/{home}/run", json.dumps({"command": command}).encode()))
        eventually(lambda: runs_in_flight(own) == 1)
        own.process.send_signal(signal.SIGTERM)
        own.wait_for_log("shutting down")
        own.agent.sh(home, "touch /tmp/end")
        received = read_until_logged(own, connection, f"/api/vm/{home}/run")
        assert (received + rest(connection)).count(b"#") == 3000000
    assert own.process.wait(60) == 0


def test_a_connection_that_the_server_has_closed_waits_for_its_reader(target: Server, home: str) -> None:
    target.run(home, "head -c 3000000 /dev/zero | tr '\\0' '#' > /tmp/small")
    with connect_tls(target, receive=65536) as connection:
        connection.sendall(f"GET /api/vm/{home}/files/tmp/small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                           .encode())
        received = read_until_logged(target, connection, f"/api/vm/{home}/files/tmp/small")
        assert does_not_spin(target)
        assert (received + rest(connection)).count(b"#") == 3000000


def test_a_certificate_is_read_again_on_sighup(serve: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    own = serve(certificate=make_certificate(tmp_path))
    old = connect_tls(own)
    began = connect(own)  # its handshake is to come
    own.ask("GET", "/health")
    make_certificate(tmp_path)
    own.process.send_signal(signal.SIGHUP)
    own.wait_for_log("the certificate was read again")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect_tls(own)
    assert own.tls.wrap_socket(began, server_hostname=own.host).getpeercert() == old.getpeercert()
    own.tls = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    assert own.ask("GET", "/health").status == 200
    (tmp_path / "cert.pem").write_text("none")
    own.process.send_signal(signal.SIGHUP)
    assert own.wait_for_log("cannot use")["code"] == "tls_unusable"
    assert own.ask("GET", "/health").status == 200
    old.sendall(HEALTH)
    assert b"healthy" in old.recv(4096)
    old.close()


def openssl(target: Server, words: bytes, *options: str, cut: bool = False) -> None:
    """openssl's client, which takes single letters for what its user wants of TLS. cut: the server is to end it."""
    command = ["openssl", "s_client", "-connect", f"{target.host}:{target.port}", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdin is not None and client.stdout is not None
        while b"Verify return code" not in client.stdout.readline():
            pass
        for word in words:  # a letter is one when it comes alone
            with contextlib.suppress(BrokenPipeError):
                os.write(client.stdin.fileno(), bytes([word]) + b"\n")
        if not cut:
            with contextlib.suppress(BrokenPipeError):
                client.stdin.close()
        client.wait(30)


def test_to_agree_anew_is_not_for_clients(target: Server) -> None:
    openssl(target, b"R", "-tls1_2", cut=True)


def test_keys_that_change_without_end(target: Server) -> None:
    openssl(target, b"kK" * 100, "-tls1_3")


@pytest.mark.parametrize("after", [b"\x17\x03\x03\x00\x20" + b"a" * 32, b"\x17\x03\x03\xff\xff", b"\x16\x03\x01\x00\x01\x01",
                                   b"\x15\x03\x03\x00\x02\x02\x00", HEALTH, os.urandom(3000)])
def test_records_that_are_none(target: Server, after: bytes) -> None:
    connection = connect_tls(target)
    connection.sendall(HEALTH)
    assert b"healthy" in connection.recv(4096)
    with socket.socket(fileno=connection.detach()) as beneath:
        beneath.settimeout(30)
        beneath.sendall(after)
        rest(beneath)  # it is cut


def test_who_takes_nothing_when_all_was_said(target: Server, home: str) -> None:
    """Each waits at its own cost, and what they hold is given back with them."""
    target.run(home, "head -c 5000000 /dev/zero > /tmp/big")
    before = memory_kib(target)
    stopped = [connect_tls(target, receive=4096) for _ in range(20)]
    for connection in stopped:
        connection.sendall(f"GET /api/vm/{home}/files/tmp/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(20).startswith(b"HTTP/1.1 200 ")
    assert memory_kib(target) - before < 20 * 256
    for connection in stopped:
        vanish(connection)
