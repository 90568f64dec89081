// An Express application with a page of notes: each note reaches the browsers of its user.
//
//   recado serve --host 127.0.0.1 --sites examples/express/sites.yml
//   cd examples/express
//   npm install
//   node server.mjs
//
// Then open http://127.0.0.1:8003/?user=alice in two windows and send a note.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

import express from "express";
import { Client } from "recado-backend";
import { authHandler } from "recado-backend/http";

const { RECADO_URL = "http://127.0.0.1:1337", PORT = "8003" } = process.env;
const PAGE = readFileSync(new URL("page.html", import.meta.url), "utf8");

const recado = new Client({ url: RECADO_URL, site: "express", apiKey: "put-a-key-of-your-own-here" });
// Token -> user. A real site has its sessions, in a database, in the place of this.
const sessions = new Map();

const app = express();

// Recado's authUrl: the rooms of the user whose token it is. Nobody's is refused.
app.get("/recado/rooms", authHandler((token) => {
  const user = sessions.get(token);
  return user ? [`user_${user}`, "everybody"] : null;
}));

// The page of the user in the query. A real site has a login in the place of this.
app.get("/", (request, response) => {
  const { user = "alice" } = request.query;
  if (!/^\w+$/.test(user)) return response.sendStatus(400);
  const token = randomUUID();
  sessions.set(token, user);
  const page = JSON.stringify({ user, token, url: `${RECADO_URL}/express`, notes: "/notes" });
  response.type("html").send(PAGE.replace("RECADO_URL", RECADO_URL).replace("{}", () => page));
});

// Send a note to the browsers of its user.
app.post("/notes", express.json(), async (request, response) => {
  const { user, text } = request.body ?? {};
  if (!/^\w+$/.test(user) || typeof text !== "string") return response.sendStatus(400);
  await recado.send(`user_${user}`, "note", [{ text }]);
  response.sendStatus(204);
});

app.listen(Number(PORT), "127.0.0.1");
