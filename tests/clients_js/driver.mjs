// Runs clients of clients/js in one Node process, driven by JSON lines on stdin; one JSON record a line on stdout.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { connect } from "../../clients/js/client.js";

const { io } = createRequire(new URL("../clients/", import.meta.url))("socket.io-client-4");

/** name -> {recado, plans, held, tokens} */
const clients = new Map();

function record(client, kind, more = {}) {
  process.stdout.write(`${JSON.stringify({ client, kind, ...more })}\n`);
}

/** What a handler does with an event: `plan` is a list of "throw", "hang", "hold"; behind its end it resolves. */
function handler(name) {
  return async (...args) => {
    const { event, position } = args.pop();
    const client = clients.get(name);
    record(name, "began", { event, args, position });
    const step = client.plans[event]?.shift();
    if (step === "throw") throw new Error("as planned");
    if (step === "hang") await new Promise(() => {});
    if (step === "hold") await new Promise((resolve) => client.held.push(resolve));
    record(name, "handled", { event, args, position });
  };
}

/** A function that takes its answers from a list, the last one for ever; "!" is a failure. */
function answers(name, kind, list) {
  return async () => {
    const next = list.length > 1 ? list.shift() : list[0];
    record(name, kind, { value: next });
    if (next === "!") throw new Error("as planned");
    return next;
  };
}

const operations = {
  connect({ name, url, tokens, reloads, failures, plans = {}, events, options }) {
    const recado = connect(url, {
      io,
      token: tokens && answers(name, "token", tokens),
      reload: reloads && answers(name, "reload", reloads),
      failed: failures && ((error, event, args) => record(name, "failed", { error: error.message, event, args })),
      onError: (error, event) => record(name, "error", { error: String(error.message ?? error), event }),
      socket: { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 },
      ...options,
    });
    clients.set(name, { recado, plans, held: [] });
    for (const event of events) recado.on(event, handler(name));
    recado.socket.onAny((event) => record(name, "arrived", { event }));
    recado.socket.on("connect", () => record(name, "connect", { id: recado.socket.id }));
    recado.socket.on("disconnect", (reason) => record(name, "disconnect", { reason }));
    recado.socket.on("connect_error", (error) => record(name, "refused", { error: error.message }));
  },
  release: ({ name }) => clients.get(name).held.splice(0).forEach((resolve) => resolve()),
  drop: ({ name }) => clients.get(name).recado.socket.io.engine.close(),
  away: ({ name }) => clients.get(name).recado.socket.disconnect(),
  back: ({ name }) => clients.get(name).recado.socket.connect(),
  off: ({ name, event }) => clients.get(name).recado.off(event, handler),
  close: ({ name }) => clients.get(name).recado.close(),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const { op, ...fields } = JSON.parse(line);
  operations[op](fields);
});
process.on("unhandledRejection", (error) => record("", "unhandled", { error: String(error?.stack ?? error) }));
