// The types of the Node package, in the hands of a strict compiler; nothing runs this file.

import { createServer } from "node:http";

import { BadWebhook, Client, RecadoError, Refused, authAnswer, tokenIn } from "../../clients/node/lib/index.js";
import { authHandler, webhookHandler } from "../../clients/node/lib/http.js";

const recado = new Client({ url: "http://127.0.0.1:1337", site: "shop", apiKey: "key", retries: 2 });

const sent = await recado.send(["user_8", 5], "news", [{ id: 3 }], { ttl: 60, wait: "any", timeout: 5, id: true });
const id: string = sent.id;
const acked: number | undefined = sent.acked;
for (const answer of await recado.sendBatch([{ rooms: "user_8", event: "n", args: 1, collapse: "n" }]))
  console.log(answer.ok ? answer.id : answer.status);
const receipt = await recado.message(id, { limit: 5 });
console.log(receipt.devices.map((row) => row.state === "acked"), receipt.cursor?.length, acked);
const counts: number[] = [
  await recado.withdraw(id),
  await recado.disconnect({ user: "user_8", text: "bye" }),
  await recado.moveRooms("user_8", { join: ["a"] }),
];
console.log(counts, recado.signToken(8, ["a"], { expiresIn: 60, claims: { name: "Ana" } }), tokenIn("Bearer a"));
console.log(authAnswer(["a"]).status, recado.verifyWebhook("{}", new Headers())[0]?.type);
try {
  await recado.receipt(id);
} catch (error) {
  if (error instanceof Refused) console.log(error.status, error.code);
  else if (!(error instanceof RecadoError) || error instanceof BadWebhook) throw error;
}
createServer(authHandler((token) => (token === "ana" ? ["user_8"] : null)));
createServer(webhookHandler(recado, async (event) => console.log(event.type)));

// @ts-expect-error an option that does not exist
await recado.send("user_8", "news", [], { tll: 60 });
// @ts-expect-error a client without a key
new Client({ url: "http://127.0.0.1:1337", site: "shop" });
// @ts-expect-error a wrong value
await recado.send("user_8", "news", [], { wait: "some" });
