# SPDX-License-Identifier: Apache-2.0
"""What the server says about itself: /openapi.json and /metrics, and that it keeps to it."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from tests.conftest import ROOT, Agent
from tests.http import npm
from tests.http.conftest import Answer, Server

VALIDATOR = "@seriousme/openapi-schema-validator@2.2.3"
REF = "#/components/schemas/"


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    """/openapi.json."""
    return dict(server.ask("GET", "/openapi.json").json())


def table() -> set[tuple[str, str]]:
    """The routes of the program's own table, read from its source."""
    text = (ROOT / "src" / "http" / "routes.c").read_text()
    return set(re.findall(r'\{"\w+",\s+"([A-Z]+)",\s+"(/[^"]*)"', text))


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation)."""
    return [(method.upper(), path, operation)
            for path, item in description["paths"].items() for method, operation in item.items()]


def test_it_is_openapi_for_a_validator_that_is_not_ours(description: dict[str, Any], tmp_path: pathlib.Path) -> None:
    assert description["openapi"].startswith("3.1.")
    folder = npm.install(VALIDATOR)
    (tmp_path / "openapi.json").write_text(json.dumps(description))
    script = (f"const {{ Validator }} = await import('{folder}/node_modules/@seriousme/openapi-schema-validator/index.js');"
              f"const result = await new Validator().validate('{tmp_path}/openapi.json');"
              "console.log(JSON.stringify(result)); process.exit(result.valid ? 0 : 1);")
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done


def test_it_has_every_route_and_no_other(description: dict[str, Any]) -> None:
    found = {(method, path) for method, path, _ in operations(description)}
    assert found == table() and len(found) == 18
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(description)):
        assert reference.startswith(REF) and reference[len(REF):] in schemas
    for _, path, operation in operations(description):
        assert [p["name"] for p in operation["parameters"] if p["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
        assert all(parameter["schema"] for parameter in operation["parameters"])


def check_schema(schemas: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """As much of JSON Schema as the description uses."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"][len(REF):]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
             "null": type(None)}
    assert not kinds or any(isinstance(value, types[kind]) for kind in kinds), (schema, value)
    assert "enum" not in schema or value in schema["enum"], (schema, value)
    assert "const" not in schema or value == schema["const"], (schema, value)
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value), (schema, value)
        properties = schema.get("properties", {})
        assert set(value) <= set(properties), (schema, value)
        for name, item in value.items():
            check_schema(schemas, properties[name], item)
    for item in value if isinstance(value, list) else []:
        check_schema(schemas, schema["items"], item)


def check_answer(description: dict[str, Any], operation: dict[str, Any], answer: Answer) -> None:
    """The status is one that is described, and the body what is described for it."""
    described = operation["responses"].get(str(answer.status))
    assert described is not None, (operation["operationId"], answer)
    assert answer.status != 500, answer
    kind = answer.headers["Content-Type"].split(";")[0]
    assert kind in described["content"], (operation["operationId"], answer)
    schema = described["content"][kind]["schema"]
    if kind == "application/json" and schema.get("type") != "string":
        check_schema(description["components"]["schemas"], schema, answer.json())


def values(schemas: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A strategy for what a schema describes, now and then missed on purpose."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"][len(REF):]]
    noise = strategies.one_of(strategies.none(), strategies.booleans(), strategies.integers(), strategies.text(max_size=20),
                              strategies.lists(strategies.integers(), max_size=3), strategies.floats(allow_nan=False))
    kind = schema.get("type", "string")
    if "enum" in schema:
        right: Any = strategies.sampled_from(schema["enum"])
    elif kind == "integer":
        right = strategies.integers(schema.get("minimum"), schema.get("maximum"))
    elif kind == "number":
        right = strategies.floats(0.01, 5)
    elif kind == "boolean":
        right = strategies.booleans()
    elif kind == "array":
        right = strategies.lists(values(schemas, schema["items"]), max_size=3)
    elif "properties" in schema:
        required = set(schema.get("required", []))
        items = {name: values(schemas, item) for name, item in schema["properties"].items()}
        right = strategies.fixed_dictionaries({name: item for name, item in items.items() if name in required},
                                              optional={name: item for name, item in items.items() if name not in required})
    elif kind == "object":
        right = strategies.dictionaries(strategies.text(max_size=8), strategies.text(max_size=8), max_size=3)
    else:
        right = strategies.text(max_size=30)
    return strategies.one_of(right, right, right, noise)


def quiet(body: Any) -> Any:
    """Commands that were made up are harmless in a VM, but may take their time; VMs that were made up may be large."""
    if isinstance(body, dict) and isinstance(body.get("command"), str) and body["command"].strip():
        body["command"] = "true #" + body["command"]
    return body


CALLS = hypothesis.settings(max_examples=250, deadline=None, database=None, derandomize=True,
                                       suppress_health_check=list(hypothesis.HealthCheck))


def test_no_call_that_is_made_up_finds_a_fault(server: Server, agent: Agent, description: dict[str, Any]) -> None:
    """Driven by the description: right and wrong values in every place. No 500, and no answer that is not described."""
    schemas = description["components"]["schemas"]
    calls = [call for call in operations(description) if call[2]["operationId"] not in ("shell", "createVm", "runInTemporaryVm")]
    vm = server.create()
    connection = server.connect()

    @CALLS
    @hypothesis.given(strategies.data())
    def call(data: Any) -> None:
        method, path, operation = data.draw(strategies.sampled_from(calls))
        if operation["operationId"] == "deleteVm":
            vm_id = "python-1"
        else:
            vm_id = data.draw(strategies.sampled_from([vm, vm, vm, "python-1", "x", "%00", "..", "a" * 100]))
        name = data.draw(strategies.text(alphabet="abc./%é\x00", max_size=12))
        import urllib.parse
        target = path.replace("{id}", vm_id).replace("{path}", "tmp/" + urllib.parse.quote(name))
        query = [(parameter["name"], str(data.draw(values(schemas, parameter["schema"]))))
                 for parameter in operation["parameters"] if parameter["in"] == "query" and data.draw(strategies.booleans())]
        if query:
            target += "?" + urllib.parse.urlencode(query, errors="replace")
        body: Any = None
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            body = json.dumps(quiet(data.draw(values(schemas, content["application/json"]["schema"])))).encode()
        elif content:
            body = data.draw(strategies.binary(max_size=100))
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer = server.ask(method, target, body, headers, connection)
        check_answer(description, operation, answer)

    try:
        call()
    finally:
        connection.close()
        agent.clean(vm)


def test_no_vm_that_is_made_up_finds_a_fault(server: Server, agent: Agent, description: dict[str, Any]) -> None:
    """Creations are mostly refused: what would be created is removed."""
    schemas = description["components"]["schemas"]
    operation = description["paths"]["/api/vm"]["post"]

    @hypothesis.settings(CALLS, max_examples=80)
    @hypothesis.given(values(schemas, schemas["CreateVm"]))
    def call(body: Any) -> None:
        if isinstance(body, dict):
            body = {**body, "launcher": body.get("launcher", "auto") if body.get("launcher") != "auto" else "namespace"}
            body.pop("network", None)
            body.pop("network_mode", None)
        answer = server.ask("POST", "/api/vm", body if body is not None else b"null", {"Content-Type": "application/json"})
        if answer.status == 201:
            agent.clean(answer.json()["id"])
        check_answer(description, operation, answer)

    call()


def test_metrics_are_what_prometheus_reads(server: Server, agent: Agent, vm: str) -> None:
    server.run(vm, "true")
    server.run(vm, "kill -9 $$")
    server.ask("GET", "/nowhere")
    text = server.ask("GET", "/metrics").body.decode()
    if shutil.which("promtool") is None:
        pytest.skip("promtool (package prometheus) is not installed")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stderr == "", checked

    def value(line: str) -> float:
        match = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        assert match is not None, (line, text)
        return float(match.group(1))

    assert value('agent_runs_total{verdict="exited"}') >= 1 and value('agent_runs_total{verdict="signaled"}') >= 1
    assert value('agent_vms{status="ready",launcher="namespace"}') >= 1
    assert value('agent_http_requests_total{route="POST /api/vm/{id}/run",status="200"}') >= 2
    assert value('agent_http_requests_total{route="none",status="404"}') >= 1
    assert value("agent_run_duration_seconds_count") >= 2 and value('agent_run_duration_seconds_bucket{le="+Inf"}') >= 2
    assert value("agent_http_sent_bytes_total") > 0 and value("agent_shim_failures_total") >= 0
    before = value("agent_create_duration_seconds_count")
    agent.clean(server.create())
    text = server.ask("GET", "/metrics").body.decode()
    assert value("agent_create_duration_seconds_count") == before + 1
