# SPDX-License-Identifier: Apache-2.0
"""The examples do what they say, with a key, and over TLS."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, Agent
from tests.http.conftest import Server


@pytest.fixture(scope="module", params=["http", "https"])
def keyed(agent: Agent, certificate: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with a key."""
    secret = request.param == "https"
    started = Server(agent, env={"AGENT_API_KEY": "of the examples"}, certificate=certificate if secret else None)
    yield started
    assert started.stop() == 0


@pytest.mark.parametrize("words", [["sh", "curl.sh"], ["/usr/bin/python3", "python/agent.py"], ["node", "node/agent.mjs"]],
                         ids=["curl", "python", "node"])
def test_an_example(keyed: Server, agent: Agent, words: list[str]) -> None:
    before = agent.run("vm", "list", "--all", "--quiet", check=True).stdout
    env = {"PATH": os.environ["PATH"], "AGENT_URL": f"http://{keyed.address}", "AGENT_API_KEY": "of the examples"}
    if keyed.certificate is not None:  # each has its own way to be told of an authority
        env["AGENT_URL"] = f"https://{keyed.address}"
        for name in ("CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            env[name] = str(keyed.certificate / "cert.pem")
    done = subprocess.run([words[0], ROOT / "examples" / "http" / words[1]], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done
    for words_of_it in ("42", "some bytes", "exited"):
        assert words_of_it in done.stdout, done
    assert agent.run("vm", "list", "--all", "--quiet", check=True).stdout == before
