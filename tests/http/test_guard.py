# SPDX-License-Identifier: Apache-2.0
"""Who is let in: keys, hosts, origins, shapes of requests, limits."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Agent, eventually
from tests.http.conftest import Server

KEY = "correct horse battery staple"
OTHER = "Tr0ub4dor&3"


@pytest.fixture(scope="module")
def keyed(agent: Agent) -> Iterator[Server]:
    """A server with two keys."""
    started = Server(agent, env={"AGENT_API_KEY": f"{KEY}, {OTHER}"})
    yield started
    assert started.stop() == 0


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {key}"}


def test_health_needs_no_key_and_all_else_does(keyed: Server) -> None:
    assert keyed.ask("GET", "/health").status == 200
    for method, path in [("GET", "/api/vms"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/api/vm"),
                         ("GET", "/"), ("GET", "/nowhere"), ("DELETE", "/api/vm/python-1"), ("PUT", "/api/vm/x/files/y"),
                         ("GET", "/api/vm/%00")]:
        answer = keyed.ask(method, path)
        answer.error(401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}",
                                    f"Bearer x{KEY}", f"Bearer {KEY}, {OTHER}", f"Bearer {KEY.upper()}"])
def test_wrong_keys(keyed: Server, header: str) -> None:
    keyed.ask("GET", "/api/vms", headers={"Authorization": header}).error(401, "unauthorized")


def test_right_keys(keyed: Server) -> None:
    for key in (KEY, OTHER):
        assert keyed.ask("GET", "/api/vms", headers=bearer(key)).status == 200
    assert keyed.ask("GET", "/api/vms", headers={"Authorization": f"bearer  {KEY}"}).status == 200


def test_keys_are_never_logged(keyed: Server) -> None:
    keyed.ask("GET", "/api/vms", headers=bearer("a wrong but secret key"))
    keyed.wait_for_log("request", path="/api/vms", status=401)
    text = json.dumps(keyed.log_lines())
    assert KEY not in text and OTHER not in text and "secret key" not in text
    assert KEY not in pathlib.Path(f"/proc/{keyed.process.pid}/cmdline").read_text()


def test_the_access_log(keyed: Server) -> None:
    keyed.ask("GET", '/api/vm/pyth"on?secret=1', headers=bearer(KEY))
    line = keyed.wait_for_log("request", path='/api/vm/pyth"on')
    assert line["method"] == "GET" and line["status"] == 400 and line["duration_ms"] > 0
    assert line["client"].startswith("127.0.0.1:") and "secret" not in json.dumps(line)


def test_keys_of_a_file_are_read_again_on_sighup(serve: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\nfirst\n\n")
    server = serve("--api-key-file", str(file))
    assert server.ask("GET", "/api/vms", headers=bearer("first")).status == 200
    server.ask("GET", "/api/vms", headers=bearer("# of the team")).error(401, "unauthorized")
    file.write_text("second\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("the keys were read again")
    assert server.ask("GET", "/api/vms", headers=bearer("second")).status == 200
    server.ask("GET", "/api/vms", headers=bearer("first")).error(401, "unauthorized")
    file.write_text("\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("the file of keys")
    assert server.ask("GET", "/api/vms", headers=bearer("second")).status == 200, "an open door is no way to fail"


def refusal(agent: Agent, *args: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
    """How a server ends that does not start."""
    result = agent.run("serve", *args, env=env, timeout=30)
    return result.code, dict(json.loads(result.stderr.decode().splitlines()[-1]))


def test_it_does_not_start(agent: Agent, tmp_path: pathlib.Path) -> None:
    status, error = refusal(agent, "--listen", "0.0.0.0:0")
    assert status == 1 and error["code"] == "key_missing" and "--insecure-no-auth" in error["message"]
    assert refusal(agent, "--listen", "[::]:0")[1]["code"] == "key_missing"
    assert refusal(agent, "--listen", "0.0.0.0:0", env={"AGENT_API_KEY": " , "})[1]["code"] == "key_missing"
    empty = tmp_path / "empty"
    empty.touch()
    assert refusal(agent, "--api-key-file", str(empty))[1]["code"] == "api_key_file_unusable"
    assert refusal(agent, "--api-key-file", "/nowhere")[1]["code"] == "api_key_file_unusable"
    for address in ("nowhere", "127.0.0.1", "127.0.0.1:99999", "example.org:80", "[::1:80", ":80"):
        status, error = refusal(agent, "--listen", address)
        assert (status, error["code"], error["field"]) == (2, "usage", "listen"), address
    assert refusal(agent, "--max-runs", "0")[0] == 2
    assert refusal(agent, "--tls-cert", str(empty))[1]["field"] == "tls-key"
    assert refusal(agent, "--tls-cert", str(empty), "--tls-key", str(empty))[1]["code"] == "tls_unusable"
    assert refusal(agent, "--tls-cert", "/nowhere", "--tls-key", str(empty))[1]["code"] == "tls_unusable"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, error = refusal(agent, env={"PORT": str(taken.getsockname()[1])})
        assert (status, error["code"]) == (1, "address_unusable")


def test_each_option_of_the_command_line_is_one_of_the_server(agent: Agent) -> None:
    """They are two programs with a table each. What is refused is the address, behind all options."""
    text = agent.run("serve", "--help", check=True).text.split("Global options:")[0]
    options = re.findall(r"^  --([a-z-]+)( [A-Z:]+)?", text, re.MULTILINE)
    assert len(options) > 10
    for name, metavar in options:
        words = [f"--{name}", "5"] if metavar else [f"--{name}"]
        status, error = refusal(agent, *words, *([] if name == "listen" else ["--listen", "nowhere"]))
        assert status in (1, 2) and error["code"] in ("usage", "api_key_file_unusable"), (name, error)
        assert "unknown" not in error["message"] and "value" not in error["message"], (name, error)


def test_it_listens_elsewhere_when_told_so(serve: Callable[..., Server]) -> None:
    server = serve("--insecure-no-auth", listen="0.0.0.0:0")
    assert server.ask("GET", "/api/vms").status == 200
    assert server.wait_for_log("serving without authentication")["level"] == "warn"
    server = serve(listen="0.0.0.0:0", env={"AGENT_API_KEY": KEY})
    server.ask("GET", "/api/vms").error(401, "unauthorized")
    server = serve(listen="[::1]:0")
    assert server.ask("GET", "/health", headers={"Host": f"[::1]:{server.port}"}).status == 200


@pytest.mark.parametrize("env", [{"AGENT_MODE": "http"}, {"AGENT_MODE": "server"}])
def test_agent_mode_and_port(agent: Agent, env: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([agent.program], env={**agent.env, **env, "PORT": str(port)}, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        line = json.loads(process.stderr.readline())
        assert (line["message"], line["address"]) == ("listening", f"127.0.0.1:{port}")
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8787", "127.0.0.1:1", "127.8.9.1", "[::1]:80", "a.localhost"])
def test_hosts_that_are_this_one(server: Server, host: str) -> None:
    assert server.ask("GET", "/api/vms", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org", "127.0.0.256", "10.0.0.1",
                                  "[::2]", "localhost:80:80", "", "xlocalhost", "127.0.0.1@example.org", "[::1].org"])
def test_a_page_that_found_us_by_dns_is_refused(server: Server, keyed: Server, host: str) -> None:
    server.ask("GET", "/api/vms", headers={"Host": host}).error(403, "host_refused")
    assert keyed.ask("GET", "/api/vms", headers={"Host": host, **bearer(KEY)}).status == 200, "a key says enough"


def test_other_origins_are_refused_unless_named(server: Server, serve: Callable[..., Server]) -> None:
    origin = {"Origin": "https://app.example.org"}
    answer = server.ask("GET", "/api/vms", headers=origin)
    answer.error(403, "origin_refused")
    assert "Access-Control-Allow-Origin" not in answer.headers
    server.ask("GET", "/api/vms", headers={"Origin": "null"}).error(403, "origin_refused")
    own = {"Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}"}
    assert server.ask("GET", "/api/vms", headers=own).status == 200, "its own page"
    assert server.ask("OPTIONS", "/api/vms", headers={**origin, "Access-Control-Request-Method": "GET"}).status == 403

    named = serve("--cors-origin", "https://app.example.org", "--cors-origin", "http://localhost:3000",
                  env={"AGENT_API_KEY": KEY})
    answer = named.ask("GET", "/api/vms", headers={**origin, **bearer(KEY)})
    assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "Origin" in answer.headers["Vary"]
    preflight = named.ask("OPTIONS", "/api/vm", headers={**origin, "Access-Control-Request-Method": "POST",
                                                         "Access-Control-Request-Headers": "authorization"})
    assert preflight.status == 204 and "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    answer = named.ask("GET", "/api/vms", headers=origin)
    answer.error(401, "unauthorized")
    assert answer.headers["Access-Control-Allow-Origin"] == origin["Origin"], "so that the page can read why"
    named.ask("GET", "/api/vms", headers={"Origin": "https://evil.org", **bearer(KEY)}).error(403, "origin_refused")


def test_methods_and_paths(server: Server) -> None:
    answer = server.ask("PATCH", "/api/vm/python-1")
    answer.error(405, "method_not_allowed")
    assert {word.strip() for word in answer.headers["Allow"].split(",")} == {"GET", "HEAD", "DELETE"}
    for path in ("/", "/api", "/api/", "/api/vm/", "/API/VMS", "/health/", "/api/vms/x", "/api/vm/python-1/run/x"):
        assert server.ask("GET", path).status == 404, path
    server.ask("POST", "/health").error(405, "method_not_allowed")


def test_a_refusal_does_not_cost_the_connection(server: Server, keyed: Server) -> None:
    """Unless a body follows that nobody wants, or what it is cannot be told."""
    for asked, path, method in ((keyed, "/api/vms", "GET"), (server, "/nowhere", "GET"), (server, "/api/vm", "PATCH"),
                                (server, "/api/vms?x=1", "GET"), (server, "/api/vm/python-1", "GET")):
        connection = asked.connect()
        assert asked.ask(method, path, connection=connection).status >= 400
        kept = connection.sock
        assert kept is not None and asked.ask("GET", "/health", connection=connection).status == 200
        assert connection.sock is kept, path
        connection.close()


def test_head_is_get_without_its_body(server: Server, vm: str) -> None:
    server.run(vm, "head -c 3000000 /dev/zero > /tmp/f")
    connection = server.connect()
    for path in ("/health", "/api/vms", f"/api/vm/{vm}", "/openapi.json", f"/api/vm/{vm}/files/tmp/f",
                 f"/api/vm/{vm}/files/tmp/", "/nowhere", "/api/vm/python-1", f"/api/vm/{vm}/shell"):
        answer = server.ask("HEAD", path, connection=connection)
        whole = server.ask("GET", path, connection=connection)
        assert answer.status == whole.status and answer.body == b"", path
        assert answer.headers["Content-Type"] == whole.headers["Content-Type"], path
        if path != f"/api/vm/{vm}":  # its status may have changed: the run before is being recorded
            assert answer.headers["Content-Length"] == whole.headers["Content-Length"], path
    connection.close()
    server.ask("HEAD", f"/api/vm/{vm}/shell", headers={
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert server.ask("HEAD", f"/api/vm/{vm}/run").status == 405


def test_bodies_have_a_type_and_a_length(server: Server) -> None:
    for kind in ("text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""):
        server.ask("POST", "/api/vm", b"{}", {"Content-Type": kind}).error(415, "not_json")
    server.ask("POST", "/api/vm", b"{}", {"Content-Type": "application/json; charset=utf-8"}).error(400, "invalid_argument")
    answer = server.raw(b"POST /api/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ") and b"length_required" in answer


def test_bodies_that_are_too_large(serve: Callable[..., Server]) -> None:
    server = serve("--max-body", "1")
    size = (1 << 20) + 1
    head = "POST /api/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = server.raw(f"{head}Content-Length: {size}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 ") and b"body_too_large" in answer
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = server.raw(f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode() + chunk * 17 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 "), "also when it is not told before"
    body = b'{"language":' + b" " * ((1 << 20) - 12)
    server.ask("POST", "/api/vm", body, {"Content-Type": "application/json"}).error(400, "malformed")


def test_more_runs_than_allowed(serve: Callable[..., Server], agent: Agent, vm: str) -> None:
    server = serve("--max-runs", "2")
    threads = [threading.Thread(target=lambda: server.run(vm, "until [ -e /tmp/go ]; do sleep 0.02; done")) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: b"agent_runs_in_flight 2\n" in server.ask("GET", "/metrics").body)
    answer = server.ask("POST", f"/api/vm/{vm}/run", {"command": "true"})
    answer.error(429, "too_many_runs")
    assert int(answer.headers["Retry-After"]) >= 1
    agent.sh(vm, "touch /tmp/go")
    for thread in threads:
        thread.join()
    assert server.run(vm, "echo again")["stdout"] == "again\n"
