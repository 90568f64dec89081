// Uploads one file with tus-js-client, whose connections it may cut, and writes what happened as one line of JSON.
// The argument is a JSON object: {endpoint, uploadUrl, session, path, options, cutAt, abortAt}; knows nothing of Recado.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const tus = require("tus-js-client");

const task = JSON.parse(process.argv[2]);
const cutAt = task.cutAt ?? [];
const told = { requests: [], cuts: 0, retries: 0 };

/** Remembers its sockets, so that they can be cut as a lost network cuts them. */
class CuttableAgent extends http.Agent {
  open = new Set();

  createConnection(...given) {
    const socket = super.createConnection(...given);
    this.open.add(socket);
    socket.on("close", () => this.open.delete(socket));
    return socket;
  }

  cut() {
    for (const socket of this.open) socket.destroy(new Error("cut"));
  }
}

const agent = new CuttableAgent({ keepAlive: true });

function end(kind, fields = {}) {
  process.stdout.write(JSON.stringify({ kind, url: upload.url, ...told, ...fields }) + "\n");
  agent.destroy();
}

const upload = new tus.Upload(fs.createReadStream(task.path), {
  endpoint: task.endpoint,
  uploadUrl: task.uploadUrl,
  uploadSize: fs.statSync(task.path).size,
  headers: { Authorization: `Bearer ${task.session}` },
  httpStack: new tus.DefaultHttpStack({ agent }),
  retryDelays: [0, 50, 100, 200, 400, 800],
  ...task.options,
  onBeforeRequest: (request) => {
    told.requests.push([request.getMethod(), request.getHeader("Upload-Offset") ?? null]);
  },
  onShouldRetry: (error, attempt, options) => {
    told.retries += 1;
    const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
    return status < 400 || status >= 500 || status === 409 || status === 423;
  },
  onProgress: (sent) => {
    if (cutAt.length && sent >= cutAt[0]) {
      cutAt.shift();
      told.cuts += 1;
      agent.cut();
    } else if (task.abortAt && sent >= task.abortAt) {
      upload.abort().then(() => end("aborted"));
    }
  },
  onError: (error) => {
    end("failed", { error: String(error), status: error.originalResponse?.getStatus() ?? null });
    process.exitCode = 1;
  },
  onSuccess: () => end("done"),
});

if (task.terminate) {
  tus.Upload.terminate(task.uploadUrl, upload.options).then(
    () => end("terminated"),
    (error) => end("failed", { error: String(error), status: error.originalResponse?.getStatus() ?? null }),
  );
} else {
  upload.start();
}
