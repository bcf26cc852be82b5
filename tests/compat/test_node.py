# SPDX-License-Identifier: Apache-2.0
"""Node.js in a VM: its runtime, npm without a network, and real tools that people build with."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, Agent

HERE = pathlib.Path(__file__).parent / "node"
CACHE = ROOT / ".cache" / "compat"
# What is bundled and compiled with. Fetched once by npm on the host; the VM has no network.
TOOLS = {"esbuild": "0.25.0", "typescript": "5.7.3"}

SOURCE = {
    "package.json": json.dumps({"name": "app", "version": "1.0.0", "type": "module"}),
    "tsconfig.json": json.dumps(
        {"compilerOptions": {"strict": True, "target": "es2022", "module": "node16", "outDir": "out", "types": []},
         "include": ["src"]}
    ),
    "src/shapes.ts": "export interface Shape { area(): number }\n"
    "export class Square implements Shape { constructor(private side: number) {} area() { return this.side ** 2; } }\n",
    "src/main.ts": 'import { Square, type Shape } from "./shapes.js";\n'
    "declare const console: { log(text: string): void };\n"
    "const shapes: Shape[] = [new Square(2), new Square(3)];\n"
    "console.log(`area ${shapes.reduce((sum, shape) => sum + shape.area(), 0)}`);\n",
    "wrong/src/main.ts": 'const n: number = "word";\nexport default n;\n',
}


@pytest.fixture(scope="module")
def node_vm(agent: Agent) -> Iterator[str]:
    """One VM for all of these, without a network."""
    created = agent.create("--mem", "1024", "--cpu", "2", language="node")
    yield created
    agent.clean(created)


@pytest.fixture(scope="module")
def tools() -> pathlib.Path:
    """The folder with node_modules of TOOLS."""
    folder = CACHE / "-".join(["node", *(f"{name}{version}" for name, version in TOOLS.items())])
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        words = [f"{name}@{version}" for name, version in TOOLS.items()]
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        subprocess.run(["npm", "install", *quiet, *words], cwd=folder, check=True, timeout=300)
        (folder / "done").touch()
    return folder


def write_tree(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    """Writes files below a folder of the host."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_runtime(agent: Agent, node_vm: str) -> None:
    """Threads, processes, watchers, WebAssembly, servers, crypto: see runtime.test.mjs."""
    agent.run("vm", "cp", str(HERE / "runtime.test.mjs"), f"{node_vm}:/workspace/runtime.test.mjs", check=True)
    result = agent.sh(node_vm, "node --test --test-timeout=60000 --test-reporter=tap runtime.test.mjs", "--timeout", "120", check=False)
    wanted = len(re.findall(r'^test\("', (HERE / "runtime.test.mjs").read_text(), re.MULTILINE))
    counts = dict(re.findall(r"^# (\w+) (\d+)$", result.text, re.MULTILINE))
    assert (result.code, counts["pass"], counts["skipped"]) == (0, str(wanted), "0"), result.text


def test_npm_installs_a_folder_and_an_archive(agent: Agent, node_vm: str, tmp_path: pathlib.Path) -> None:
    """Offline, with a dependency on each other, an install script, and a program for npx."""
    files = {
        "lib/package.json": json.dumps({"name": "lib", "version": "1.2.3", "main": "index.js",
                                        "scripts": {"postinstall": "echo built > built.txt"}}),
        "lib/index.js": "module.exports = (name) => `hello ${name}`;\n",
        "tool/package.json": json.dumps({"name": "tool", "version": "0.0.1", "bin": {"greet": "greet.js"},
                                         "dependencies": {"lib": "1.2.3"}}),
        "tool/greet.js": '#!/usr/bin/env node\nconsole.log(require("lib")(process.argv[2]));\n',
        "app/package.json": json.dumps({"name": "app", "version": "1.0.0", "scripts": {"start": "node main.js"}}),
        "app/main.js": 'console.log(require("lib")("main"));\n',
    }
    agent.run("vm", "cp", str(write_tree(tmp_path / "npm", files)), f"{node_vm}:/workspace/npm", check=True)
    script = """
        set -e
        cd /workspace/npm/app
        npm pack ../tool --silent
        npm install --offline --no-audit --no-fund --install-links ../lib
        npm install --offline --no-audit --no-fund ./tool-0.0.1.tgz
        cat node_modules/lib/built.txt
        npm start --silent
        npx --offline greet world
        npm ls --json
    """
    result = agent.sh(node_vm, script, "--timeout", "100")
    said, tree = result.text.split("{", 1)
    assert "built" in said and "hello main" in said and "hello world" in said
    assert set(json.loads("{" + tree)["dependencies"]) == {"lib", "tool"}


def test_esbuild_and_typescript(agent: Agent, node_vm: str, tools: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A bundler in Go with its own threads and sockets to its child, and a compiler in 20 MB of JavaScript."""
    agent.run("vm", "cp", str(write_tree(tmp_path / "app", SOURCE)), f"{node_vm}:/workspace/app", check=True)
    agent.run("vm", "cp", str(tools / "node_modules"), f"{node_vm}:/workspace/app/node_modules", check=True)
    bundle = "cd app && npx --offline esbuild src/main.ts --bundle --minify --sourcemap --outfile=out/bundle.js && node out/bundle.js"
    assert agent.sh(node_vm, bundle, "--timeout", "60").text == "area 13\n"
    service = """
        import * as esbuild from "esbuild";
        const context = await esbuild.context({ entryPoints: ["src/main.ts"], bundle: true, write: false, outdir: "out" });
        const { outputFiles } = await context.rebuild();
        const { host, port } = await context.serve({ host: "127.0.0.1" });
        const text = await (await fetch(`http://127.0.0.1:${port}/main.js`)).text();
        console.log(outputFiles[0].text === text, text.includes("Square"));
        await context.dispose();
    """
    run = ("vm", "exec", "--vm", node_vm, "--workdir", "/workspace/app", "--", "node", "--input-type=module", "-e", service)
    assert agent.run(*run, check=True).text == "true true\n"
    assert agent.sh(node_vm, "cd app && npx --offline tsc && node out/main.js", "--timeout", "60").text == "area 13\n"
    wrong = agent.sh(node_vm, "cd app && npx --offline tsc --noEmit --strict wrong/src/main.ts", "--timeout", "60", check=False)
    assert wrong.code != 0 and "TS2322" in wrong.text
