#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The HTTP API from Node.js, with nothing but what it brings (fetch).
//
// Usage: [AGENT_URL=http://127.0.0.1:8787] [AGENT_API_KEY=…] agent.mjs

const url = process.env.AGENT_URL ?? "http://127.0.0.1:8787";
const key = process.env.AGENT_API_KEY ?? "none";

// An open response. A body that is an object is sent as JSON.
async function request(method, path, body) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined && !(body instanceof Uint8Array)) {
    body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  const response = await fetch(url + path, { method, headers, body });
  if (response.ok) return response;
  const { code, message, details = "" } = await response.json();
  throw Object.assign(new Error(`${code}: ${message} ${details}`.trim()), { code });
}

const call = async (...args) => (await request(...args)).json();

// A run's events as they come: ["stdout", Buffer], ["stderr", Buffer], at last ["exit", result].
async function* stream(vm, command) {
  const response = await request("POST", `/api/vm/${vm}/run?stream=sse`, { command });
  let text = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/);
      yield [name, name.startsWith("std") ? Buffer.from(data, "base64") : JSON.parse(data)];
    }
  }
}

const { id: vm } = await call("POST", "/api/vm", { language: "node" });
try {
  const program = { path: "hello.js", content: "console.log(6 * 7)" };
  process.stdout.write((await call("POST", `/api/vm/${vm}/run`, { command: "node hello.js", files: [program] })).stdout);
  for await (const [name, data] of stream(vm, "for i in 1 2 3; do echo $i; sleep 0.2; done"))
    console.log(name, Buffer.isBuffer(data) ? data.toString() : data);
  await call("PUT", `/api/vm/${vm}/files/workspace/in/note`, Buffer.from("some bytes"));
  console.log(await (await request("GET", `/api/vm/${vm}/files/workspace/in/note`)).text());
  await call("POST", `/api/vm/${vm}/run`, { command: "true", timeout: -1 });
} catch (error) {
  console.log(error.message);
} finally {
  await call("DELETE", `/api/vm/${vm}`);
}
