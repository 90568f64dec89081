// Runs the scripts of one page of the documentation with a real socket.io-client; knows nothing of Recado.
// argv[2] is JSON: {version, scripts: [{source, text}], values}. Writes one JSON record {name, args} a line on stdout.
"use strict";

const vm = require("node:vm");

/** The page's timers run faster by this factor, because an example waits for seconds before it reconnects. */
const FASTER = 100;
/** Functions that the examples call and do not define. */
const LEFT_TO_THE_READER = ["show", "handle", "fetchEverything"];

const { version, scripts, values } = JSON.parse(process.argv[2]);

function report(name, ...args) {
  const shown = args.filter((value) => typeof value !== "function");
  process.stdout.write(JSON.stringify({ name, args: shown }) + "\n");
}

const page = {
  ...values,
  io: require(`socket.io-client-${version}`),
  WebSocket: require("ws"),
  URLSearchParams,
  clearTimeout,
  setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds / FASTER),
  console: { log: (...args) => report("log", ...args) },
  document: { currentScript: null },
  report,
};
for (const name of LEFT_TO_THE_READER) page[name] = (...args) => report(name, ...args);
vm.createContext(page);

process.on("uncaughtException", (error) => {
  report("uncaught", String(error.stack || error));
  process.exit(1);
});

for (const { source, text } of scripts) {
  page.document.currentScript = source ? { src: source } : null;
  vm.runInContext(text, page);
}
