// SPDX-License-Identifier: Apache-2.0
// A client of the shell. argv: the folder with node_modules, the URL, and steps as JSON: {"send": text},
// {"resize": [c, r]}, {"text": any text message}, {"await": text in what came so far}, {"close": code}, {"vanish": true},
// {"big": bytes}. Prints one object when the socket is closed: {"code", "reason", "output" (base64)}.
import { createRequire } from "node:module";

const [folder, url, text] = process.argv.slice(2);
const { WebSocket } = createRequire(`${folder}/`)("ws");
const socket = new WebSocket(url, { headers: { Host: "localhost" }, perMessageDeflate: false });
const received = [];
let wake = () => {};
const finish = (result) => process.stdout.write(JSON.stringify(result), () => process.exit(0));

socket.on("message", (data, isBinary) => {
  if (!isBinary) throw new Error(`a text message: ${data}`);
  received.push(data);
  wake();
});
socket.on("unexpected-response", (_, response) => {
  finish({ status: response.statusCode });
});
socket.on("error", () => {});
socket.on("close", (code, reason) => {
  const output = Buffer.concat(received).toString("base64");
  finish({ code, reason: reason.toString(), output });
});
socket.on("open", async () => {
  for (const step of JSON.parse(text)) {
    if (step.send !== undefined) socket.send(Buffer.from(step.send));
    if (step.big !== undefined) socket.send(Buffer.alloc(step.big, "x"));
    if (step.resize !== undefined) socket.send(JSON.stringify({ resize: step.resize }));
    if (step.text !== undefined) socket.send(step.text);
    if (step.close !== undefined) socket.close(step.close);
    if (step.vanish) process.kill(process.pid, "SIGKILL");
    while (step.await !== undefined && !Buffer.concat(received).includes(step.await))
      await new Promise((resolve) => { wake = resolve; });
  }
});
