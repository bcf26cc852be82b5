// Says hello from inside a VM.
const os = require("node:os");

console.log(`Hello from Node.js ${process.version} on ${os.hostname()}`);
