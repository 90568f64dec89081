// A backend of node:http with the handlers of the Node package; prints its port, and each event that it keeps.

import { createServer } from "node:http";

import { authHandler, webhookHandler } from "../../../clients/node/lib/http.js";
import { Client } from "../../../clients/node/lib/index.js";

const recado = new Client({ url: "http://127.0.0.1:1", site: "shop", apiKey: "key", webhookSecret: process.argv[2] });
const rooms = authHandler(async (token, { url }) => {
  if (token === "broken") throw new Error("the database is away");
  return token === "ana" ? ["user_8", url] : null;
});
const events = webhookHandler(recado, async (event) => {
  if (event.type === "broken") throw new Error("the database is away");
  console.log(`kept ${event.type}`);
});
const server = createServer((request, response) =>
  request.url.startsWith("/rooms") ? rooms(request, response) : events(request, response),
);
server.listen(0, "127.0.0.1", () => console.log(`port ${server.address().port}`));
