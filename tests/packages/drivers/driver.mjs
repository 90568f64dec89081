// The driver of the Node package, as languages.py describes it.

import { createInterface } from "node:readline";
import { inspect } from "node:util";

import * as recado from "../../../clients/node/lib/index.js";

const KINDS = {
  Refused: "refused",
  Unreachable: "unreachable",
  BadAnswer: "bad_answer",
  BadWebhook: "bad_webhook",
  BadInput: "bad_input",
};
const clients = new Map();

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const renamed = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [camel(name), value]));

const CALLS = {
  send: (client, { rooms, event, args, idempotency_key: idempotencyKey, ...options }) =>
    client.send(rooms, event, args, { ...options, idempotencyKey }),
  send_batch: (client, { messages, ...options }) => client.sendBatch(messages, renamed(options)),
  message: (client, { id, ...options }) => client.message(id, options),
  withdraw: (client, { id }) => client.withdraw(id),
  disconnect: (client, target) => client.disconnect(target),
  move_rooms: (client, { user, ...rooms }) => client.moveRooms(user, rooms),
  verify_webhook: (client, { body, headers }) => client.verifyWebhook(body, headers),
  sign_token: (client, { user, rooms, ...options }) => client.signToken(user, rooms, renamed(options)),
  auth_answer: (client, { rooms }) => client.authAnswer(rooms),
  describe: (client) => `${inspect(client, { depth: 9, showHidden: true })} ${JSON.stringify({ site: "shop", client })}`,
};

async function answer({ client: options, call, with: values }) {
  try {
    const key = JSON.stringify(options);
    if (!clients.has(key)) clients.set(key, new recado.Client(renamed(options)));
    return { result: await CALLS[call](clients.get(key), values) };
  } catch (error) {
    if (!(error instanceof recado.RecadoError)) throw error;
    const text = error instanceof recado.Refused ? error.message : inspect(error, { depth: 9 });
    return { error: { kind: KINDS[error.name], text, status: error.status, code: error.code } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
