// Holds many real Socket.IO clients of every supported version in one process for the contract suite.
// Reads one JSON command a line on stdin, writes one JSON record a line on stdout; knows nothing of Recado.
"use strict";

const readline = require("node:readline");

const LIBRARIES = {
  1: require("socket.io-client-1"),
  2: require("socket.io-client-2"),
  3: require("socket.io-client-3"),
  4: require("socket.io-client-4"),
};

/** Clients by the name that the test gave them: {socket, policy, callbacks}. */
const clients = new Map();

function report(client, kind, fields = {}) {
  process.stdout.write(JSON.stringify({ client, kind, ...fields }, markBinary) + "\n");
}

/** Makes binary arguments visible: a Buffer becomes {"$binary": hex}. */
function markBinary(_key, value) {
  if (value && value.type === "Buffer" && Array.isArray(value.data)) {
    return { $binary: Buffer.from(value.data).toString("hex") };
  }
  return value;
}

/** Whether the policy {mode: "all" | "none" | "only" | "except", events} acknowledges this event on arrival. */
function acknowledges(policy, event) {
  switch (policy.mode) {
    case "all":
      return true;
    case "none":
      return false;
    case "only":
      return policy.events.includes(event);
    case "except":
      return !policy.events.includes(event);
    default:
      throw new Error(`unknown ack policy ${policy.mode}`);
  }
}

function receive(name, event, args) {
  const state = clients.get(name);
  const last = args[args.length - 1];
  const callback = typeof last === "function" ? args.pop() : null;
  const index = state.callbacks.push(callback) - 1;
  const automatic = callback !== null && acknowledges(state.policy, event);
  report(name, "event", { event, args, index, wants_ack: callback !== null, acked: automatic });
  if (event === state.leaving?.event && --state.leaving.count === 0) state.socket.disconnect();
  if (!automatic) return;
  if (!state.policy.delay_ms) {
    callback();
    return;
  }
  setTimeout(() => {
    callback();
    report(name, "acked", { index });
  }, state.policy.delay_ms);
}

/**
 * Adds a listener for each event name when it first arrives: 1.x and 2.x have no catch-all listener, and the library's
 * own buffering must stay in place.
 */
function listenToAll(name, socket) {
  const known = new Set();
  const original = socket.onevent;
  socket.onevent = function (packet) {
    const event = packet.data[0];
    if (!known.has(event)) {
      known.add(event);
      socket.on(event, (...args) => receive(name, event, args));
    }
    return original.call(this, packet);
  };
}

function listenToLife(name, socket, version) {
  socket.on("connect", () => {
    const engine = socket.io.engine;
    report(name, "connect", { sid: socket.id, engine: engine.id, transport: engine.transport.name });
  });
  socket.on("disconnect", (reason) => report(name, "disconnect", { reason }));
  if (version < 3) {
    socket.on("error", (value) => report(name, "refused", { text: value }));
    socket.on("connect_error", (error) => report(name, "transport_error", { text: String(error) }));
  } else {
    socket.on("connect_error", (error) => report(name, "refused", { text: error.message }));
  }
}

/** The lines of docs/clients.md for a refused client, with a delay for tests. */
function connectAgain(socket, version, delay_ms) {
  const again = () => setTimeout(() => socket.connect(), delay_ms);
  if (version < 3) {
    socket.on("error", (reason) => { if (typeof reason === "string") again(); });
  } else if (version === 3) {
    socket.on("connect_error", (error) => { if (!error.type) again(); });
  } else {
    socket.on("connect_error", () => { if (!socket.active) again(); });
  }
}

function connect({ client, version, url, options, ack, share, namespace, again_ms }) {
  const socket = share ? clients.get(share).socket.io.socket(namespace, options) : LIBRARIES[version](url, options);
  clients.set(client, { socket, policy: ack, callbacks: [] });
  listenToAll(client, socket);
  listenToLife(client, socket, version);
  if (again_ms) connectAgain(socket, version, again_ms);
  if (share) {
    socket.connect();
    return;
  }
  const engine = socket.io.engine;
  engine.on("upgrade", (transport) => report(client, "upgrade", { transport: transport.name }));
  engine.on("close", (reason) => report(client, "closed", { reason: String(reason) }));
}

const operations = {
  connect,
  disconnect({ client }) {
    clients.get(client).socket.disconnect();
  },
  /** Leaves the namespace inside the listener of this event, at its call with number `count`. */
  leave_at({ client, event, count }) {
    clients.get(client).leaving = { event, count };
  },
  /** Closes the whole connection of the client, with every namespace on it. */
  close({ client }) {
    clients.get(client).socket.io.engine.close();
  },
  /** Cuts the WebSocket without a close frame, as a lost network does. */
  drop({ client }) {
    clients.get(client).socket.io.engine.transport.ws.terminate();
  },
  ack({ client, index, args }) {
    clients.get(client).callbacks[index](...args);
  },
  policy({ client, ack }) {
    clients.get(client).policy = ack;
  },
  emit({ client, event, args }) {
    clients.get(client).socket.emit(event, ...args);
  },
  /** Sends an event and reports the arguments of its ack. */
  ask({ client, event, args, number }) {
    clients.get(client).socket.emit(event, ...args, (...answer) => report(client, "answer", { number, answer }));
  },
  forget({ client }) {
    const manager = clients.get(client).socket.io;
    manager.reconnection(false);
    manager.engine.close();
    clients.delete(client);
  },
};

// An exception of a library outside our calls must not end the other clients; the tests find this line.
process.on("uncaughtException", (error) => process.stderr.write(`uncaught: ${error.stack || error}\n`));

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    try {
      operations[command.op](command);
    } catch (error) {
      report(command.client, "fault", { text: String(error.stack || error) });
    }
  })
  .on("close", () => process.exit(0));
