/** One device's connection to the demo's site: knows Socket.IO, nothing of the page. */

import { SITE } from "./request.js";

/**
 * off: closed by the visitor or the server, stays so; connecting: first attempt; connected; waiting: lost or not
 * reached, the client tries again by itself; refused: the server said no, the client does not try again.
 * @typedef {"off" | "connecting" | "connected" | "waiting" | "refused"} State
 */

/**
 * What happens to a connection, in the order in which it happens.
 * @typedef {object} Listener
 * @property {(state: State, reason?: string) => void} stateChanged `reason` in Socket.IO's words
 * @property {(name: string) => void} transportChanged "polling" or "websocket"
 * @property {(event: string, args: unknown[], acknowledge: (() => void) | null) => void} messageReceived
 *   `acknowledge` is null when the server asked for no receipt
 */

/**
 * Connects a device; lives until `close`.
 * @param {{user: string, device: string, transports: string[]}} identity the demo's tokens are the users' names
 * @param {Listener} listener
 * @returns {{close: () => void}}
 */
export function openClient({ user, device, transports }, listener) {
  listener.stateChanged("connecting");
  // forceNew: every device of the page has a transport of its own, as real devices have.
  const socket = window.io(`/${SITE}`, { forceNew: true, transports, auth: { token: user, deviceId: device } });
  socket.on("connect", () => {
    const engine = socket.io.engine;
    listener.transportChanged(engine.transport.name);
    engine.on("upgrade", (transport) => listener.transportChanged(transport.name));
    listener.stateChanged("connected");
  });
  socket.on("disconnect", (reason) => listener.stateChanged(socket.active ? "waiting" : "off", reason));
  socket.on("connect_error", (error) => listener.stateChanged(socket.active ? "waiting" : "refused", error.message));
  socket.onAny((event, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : null;
    listener.messageReceived(event, args, acknowledge);
  });
  return { close: () => socket.disconnect() };
}
