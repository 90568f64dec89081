/** The client as a package: it brings socket.io-client. */

import { io } from "socket.io-client";
import { connect as connectWith } from "./client.js";

export { createStore } from "./client.js";

/** Connects to a site; see client.js. */
export const connect = (url, options) => connectWith(url, { io, ...options });
