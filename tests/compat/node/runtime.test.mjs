// SPDX-License-Identifier: Apache-2.0
// What Node.js programs are made of, by Node's own test runner: node --test runtime.test.mjs
import assert from "node:assert/strict";
import child_process from "node:child_process";
import cluster from "node:cluster";
import crypto from "node:crypto";
import dgram from "node:dgram";
import dns from "node:dns/promises";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { once } from "node:events";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { MessageChannel, Worker, receiveMessageOnPort } from "node:worker_threads";
import zlib from "node:zlib";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "node-"));
const file = (name) => path.join(folder, name);

test("worker_threads: messages, shared memory, Atomics", async () => {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const source = `const { parentPort, workerData } = require("node:worker_threads");
    for (let i = 0; i < 1000; i++) Atomics.add(workerData, 0, 1);
    Atomics.store(workerData, 1, 1); Atomics.notify(workerData, 1);
    parentPort.once("message", (n) => parentPort.postMessage(n * 2));`;
  const workers = Array.from({ length: 8 }, () => new Worker(source, { eval: true, workerData: shared }));
  Atomics.wait(shared, 1, 0, 10000);
  const answers = workers.map(async (worker, i) => {
    worker.postMessage(i);
    const [answer] = await once(worker, "message");
    await worker.terminate();
    return answer;
  });
  assert.deepEqual(await Promise.all(answers), [0, 2, 4, 6, 8, 10, 12, 14]);
  assert.equal(shared[0], 8000);
  const { port1, port2 } = new MessageChannel();
  port1.postMessage({ word: new Uint8Array([1, 2]) });
  assert.deepEqual(receiveMessageOnPort(port2).message, { word: new Uint8Array([1, 2]) });
  port1.close();
});

test("worker_threads: stdin, stdout, errors, resource limits", async () => {
  const worker = new Worker("process.stdin.pipe(process.stdout)", { eval: true, stdin: true, stdout: true });
  worker.stdin.end("through");
  assert.equal(Buffer.concat(await worker.stdout.toArray()).toString(), "through");
  const failing = new Worker("throw new TypeError('mine')", { eval: true });
  const [error] = await once(failing, "error");
  assert.equal(error.name, "TypeError");
  const hungry = new Worker("const a = []; for (;;) a.push(new Array(1000).fill(a.length));", {
    eval: true,
    resourceLimits: { maxOldGenerationSizeMb: 16 },
  });
  const [out] = await once(hungry, "error");
  assert.equal(out.code, "ERR_WORKER_OUT_OF_MEMORY");
});

test("child_process: exec, execFile, spawn, and the synchronous ones", async () => {
  const { stdout } = await promisify(child_process.exec)("echo $((6 * 7)) | cat");
  assert.equal(stdout, "42\n");
  const version = await promisify(child_process.execFile)(process.execPath, ["-p", "process.version"]);
  assert.equal(version.stdout.trim(), process.version);
  const cat = child_process.spawn("cat", [], { stdio: ["pipe", "pipe", "inherit"] });
  const noise = crypto.randomBytes(1 << 20);
  cat.stdin.end(noise);
  assert.ok(Buffer.concat(await cat.stdout.toArray()).equals(noise));
  assert.equal(child_process.spawnSync("sh", ["-c", "exit 7"]).status, 7);
  assert.throws(() => child_process.execFileSync("/no/such/program"), { code: "ENOENT" });
  const killed = child_process.spawnSync("sleep", ["100"], { timeout: 50 });
  assert.equal(killed.signal, "SIGTERM");
});

test("child_process: detached, kill, many at once", async () => {
  const child = child_process.spawn("sleep", ["100"], { detached: true, stdio: "ignore" });
  process.kill(-child.pid, "SIGKILL");
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
  const codes = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => (await once(child_process.spawn("sh", ["-c", `exit ${i}`]), "exit"))[0]),
  );
  assert.deepEqual(codes, Array.from({ length: 50 }, (_, i) => i));
});

test("child_process: fork, with messages and a handle", async () => {
  fs.writeFileSync(
    file("forked.cjs"),
    `process.on("message", (word, handle) => { handle.end(word); process.send("sent"); process.disconnect(); });`,
  );
  const child = child_process.fork(file("forked.cjs"), { serialization: "advanced" });
  const server = net.createServer((socket) => child.send("hello", socket)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = net.connect(server.address().port, "127.0.0.1");
  assert.equal(Buffer.concat(await client.toArray()).toString(), "hello");
  const [code] = await once(child, "exit");
  assert.equal(code, 0);
  server.close();
});

test("cluster: two workers share a port", async () => {
  fs.writeFileSync(
    file("cluster.cjs"),
    `const cluster = require("node:cluster"), http = require("node:http");
     if (cluster.isPrimary) {
       const seen = new Set(); let up = 0;
       for (let i = 0; i < 2; i++) cluster.fork();
       cluster.on("listening", async (_, address) => {
         if (++up < 2) return;
         for (let i = 0; i < 20; i++) seen.add(await (await fetch("http://127.0.0.1:" + address.port)).text());
         console.log(seen.size);
         for (const worker of Object.values(cluster.workers)) worker.kill();
       });
     } else http.createServer((_, answer) => { answer.shouldKeepAlive = false; answer.end(String(process.pid)); }).listen(8123, "127.0.0.1");`,
  );
  const { stdout } = await promisify(child_process.execFile)(process.execPath, [file("cluster.cjs")], { timeout: 30000 });
  assert.equal(stdout, "2\n");
  assert.ok(cluster.isPrimary);
});

test("fs.watch: a folder, a file, recursively", async () => {
  fs.mkdirSync(file("watched/deep"), { recursive: true });
  const stop = new AbortController();
  const events = fs.promises.watch(file("watched"), { recursive: true, signal: stop.signal });
  const timer = setInterval(() => fs.writeFileSync(file("watched/deep/new"), String(Math.random())), 20);
  for await (const event of events) if (event.filename === path.join("deep", "new")) break;
  clearInterval(timer);
  const watcher = fs.watch(file("watched"));
  const renamed = once(watcher, "change");
  fs.renameSync(file("watched/deep/new"), file("watched/moved"));
  assert.deepEqual(await renamed, ["rename", "moved"]);
  watcher.close();
  stop.abort();
});

test("fs.promises: files, folders, links, times, copies, locks of nobody", async () => {
  const p = fs.promises;
  await p.writeFile(file("one"), "one");
  await p.copyFile(file("one"), file("two"), fs.constants.COPYFILE_FICLONE);
  await p.appendFile(file("two"), "two");
  await p.symlink("two", file("link"));
  assert.equal(await p.readFile(file("link"), "utf8"), "onetwo");
  assert.equal(await p.realpath(file("link")), await p.realpath(file("two")));
  await p.utimes(file("one"), 1, 2);
  assert.equal((await p.stat(file("one"), { bigint: true })).mtimeNs, 2000000000n);
  assert.equal((await p.statfs(folder)).bsize > 0, true);
  await p.chmod(file("one"), 0o640);
  assert.equal((await p.lstat(file("one"))).mode & 0o777, 0o640);
  await p.cp(file("watched"), file("copy"), { recursive: true });
  await p.rename(file("copy"), file("renamed"));
  assert.deepEqual(await p.readdir(file("renamed")), ["deep", "moved"]);
  const handle = await p.open(file("one"), "r+");
  await handle.truncate(10);
  await handle.datasync();
  assert.equal((await handle.stat()).size, 10);
  await handle.close();
  await Promise.all(Array.from({ length: 300 }, (_, i) => p.writeFile(file(`many-${i}`), String(i))));
  await p.rm(file("renamed"), { recursive: true });
  await assert.rejects(p.access(file("renamed")), { code: "ENOENT" });
});

test("WebAssembly: compile, instantiate, memory, threads' atomics", async () => {
  // (module (memory (export "m") 1) (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
  const code = Buffer.from(
    "0061736d0100000001070160027f7f017f030201000503010001070b02016d0200036164640000" + "0a09010700200020016a0b",
    "hex",
  );
  const { instance } = await WebAssembly.instantiate(code);
  assert.equal(instance.exports.add(40, 2), 42);
  instance.exports.m.grow(10);
  assert.equal(instance.exports.m.buffer.byteLength, 11 * 65536);
  const shared = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
  assert.equal(Atomics.add(new Int32Array(shared.buffer), 0, 5), 0);
});

test("http: a server on loopback, fetch, keep-alive, streams", async () => {
  const server = http.createServer(async (request, answer) => {
    const body = Buffer.concat(await request.toArray());
    answer.setHeader("x-length", body.length);
    await pipeline(Readable.from([body, body]), zlib.createGzip(), answer.setHeader("content-encoding", "gzip"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  const body = crypto.randomBytes(300000);
  const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(url, { method: "POST", body })));
  for (const answer of answers) {
    assert.equal(answer.headers.get("x-length"), "300000");
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(Buffer.concat([body, body])));
  }
  server.closeAllConnections();
  server.close();
  await assert.rejects(fetch(url));
});

test("net, dgram, dns: unix sockets, datagrams, IPv6, localhost", async () => {
  const server = net.createServer((socket) => socket.pipe(socket)).listen(file("socket"));
  await once(server, "listening");
  const client = net.connect(file("socket"));
  client.end("echo");
  assert.equal(Buffer.concat(await client.toArray()).toString(), "echo");
  server.close();
  const receiver = dgram.createSocket("udp6").bind(0, "::1");
  await once(receiver, "listening");
  const sender = dgram.createSocket("udp6");
  sender.send("word", receiver.address().port, "::1", () => sender.close());
  assert.equal((await once(receiver, "message"))[0].toString(), "word");
  receiver.close();
  assert.ok(["127.0.0.1", "::1"].includes((await dns.lookup("localhost")).address));
  await assert.rejects(dns.lookup("example.com"));
  await assert.rejects(once(net.connect(80, "192.0.2.1"), "connect"));
});

test("crypto: hashes, keys, random, scrypt in the thread pool, webcrypto", async () => {
  assert.equal(crypto.createHash("sha256").update("").digest("hex").slice(0, 8), "e3b0c442");
  const { publicKey, privateKey } = await promisify(crypto.generateKeyPair)("ec", { namedCurve: "P-256" });
  assert.ok(crypto.verify("sha256", Buffer.from("x"), publicKey, crypto.sign("sha256", Buffer.from("x"), privateKey)));
  const keys = await Promise.all([1, 2, 3, 4, 5].map((n) => promisify(crypto.scrypt)(`p${n}`, "salt", 32, { N: 1024 })));
  assert.equal(new Set(keys.map(String)).size, 5);
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  const iv = crypto.randomBytes(12);
  const box = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, Buffer.from("secret"));
  assert.equal(Buffer.from(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, box)).toString(), "secret");
  assert.equal(crypto.randomUUID().length, 36);
});

test("zlib and streams: every codec, a chain with back-pressure", async () => {
  const text = Buffer.from("word ".repeat(200000));
  for (const [pack, unpack] of [["gzip", "gunzip"], ["deflate", "inflate"], ["brotliCompress", "brotliDecompress"]])
    assert.ok((await promisify(zlib[unpack])(await promisify(zlib[pack])(text))).equals(text));
  const upper = new Transform({ transform: (chunk, _, done) => done(null, chunk.toString().toUpperCase()) });
  fs.writeFileSync(file("text"), text);
  await pipeline(fs.createReadStream(file("text")), upper, zlib.createGzip(), zlib.createGunzip(), fs.createWriteStream(file("up")));
  assert.equal(fs.readFileSync(file("up"), "utf8"), text.toString().toUpperCase());
});

test("process and os: signals, priorities, CPUs, limits, exit codes", async () => {
  const signalled = once(process, "SIGUSR2");
  const awake = setTimeout(() => {}, 10000); // waiting for a signal does not keep a process alive
  process.kill(process.pid, "SIGUSR2");
  await signalled;
  clearTimeout(awake);
  assert.equal(process.getuid(), 0);
  assert.ok(os.cpus().length > 0 && os.availableParallelism() > 0 && os.totalmem() > 0 && os.uptime() > 0);
  os.setPriority(5);
  assert.equal(os.getPriority(), 5);
  assert.equal(os.networkInterfaces().lo[0].address, "127.0.0.1");
  assert.equal(os.userInfo().username, "root");
  assert.equal(process.report.getReport().header.nodejsVersion, process.version);
  const uncaught = child_process.spawnSync(process.execPath, ["-e", "Promise.reject(new Error('mine'))"]);
  assert.equal(uncaught.status, 1);
  assert.ok(uncaught.stderr.includes("mine"));
});
