// Each method of a client as a value: what it asks, and how the answer is read. Nothing here does I/O.

import { randomUUID } from "node:crypto";

import { BadAnswer, BadInput, Refused } from "./errors.js";
import { isHeaderText } from "./settings.js";

const LONGEST_KEY = 128;
const WAIT_SECONDS = 5;
const JSON_TYPE = { "content-type": "application/json" };

export function send(rooms, event, args, options = {}) {
  const { idempotencyKey, ...rest } = options;
  const query = wordsOf(rest);
  return {
    method: "POST",
    path: "/send",
    query,
    headers: posted(idempotencyKey),
    body: encode({ rooms, event, ...(args !== undefined && { args }) }),
    waitSeconds: query.wait === undefined ? 0 : Number(query.timeout ?? WAIT_SECONDS),
    read: (value, headers) => ({
      id: text(value.id),
      recipients: whole(value.recipients ?? 0),
      replayed: headers.get("idempotent-replayed") === "true",
      ...(value.acked !== undefined && { acked: whole(value.acked), waiting: whole(value.waiting) }),
    }),
  };
}

export function sendBatch(messages, { idempotencyKey } = {}) {
  if (!Array.isArray(messages)) throw new BadInput("messages: expected a list of messages");
  return {
    method: "POST",
    path: "/send/batch",
    headers: posted(idempotencyKey),
    body: encode(messages),
    read: (value) => {
      const isWhole = Array.isArray(value) && value.length === messages.length;
      if (!isWhole || !value.every((one) => typeof one.ok === "boolean")) throw new TypeError();
      return value;
    },
  };
}

export function message(id, { limit, cursor, bodies } = {}) {
  return {
    method: "GET",
    path: pathOf(id),
    query: wordsOf({ limit, cursor, bodies: bodies || undefined }),
    read: (value) => {
      text(value.id);
      if (!Array.isArray(value.devices) || typeof value.summary !== "object") throw new TypeError();
      return value;
    },
  };
}

export function withdraw(id) {
  return { method: "DELETE", path: pathOf(id), read: (value) => whole(value.devices), whenGone: 0 };
}

export function disconnect({ user, device, room, text, reconnect } = {}) {
  if ((user ?? device ?? room ?? null) === null) throw new BadInput("disconnect: expected user, device or room");
  const fields = { user, device, room, text, ...(reconnect && { reconnect: true }) };
  return order("/disconnect", fields, "disconnected");
}

export function moveRooms(user, { join = [], leave = [] } = {}) {
  const given = Object.entries({ join, leave }).filter(([, rooms]) => rooms.length > 0);
  const lists = given.map(([name, rooms]) => [name, rooms.map(String)]);
  return order("/rooms", { user, ...Object.fromEntries(lists) }, "devices");
}

function order(path, body, count) {
  return { method: "POST", path, headers: JSON_TYPE, body: encode(body), read: (value) => whole(value[count]) };
}

/**
 * The result of a whole answer; Refused for an error, BadAnswer for what no Recado server answers. A repeat that is told
 * that there is no such thing has a result too: an attempt before it may have done the work.
 */
export function readAnswer(call, { status, headers, body }, isRepeat) {
  if (status === 404 && isRepeat && call.whenGone !== undefined) return call.whenGone;
  if (status !== 200) throw refused(status, headers, body);
  try {
    return call.read(JSON.parse(body), headers);
  } catch {
    throw new BadAnswer(`${call.method} ${call.path}: the answer is not that of a Recado server`);
  }
}

function refused(status, headers, body) {
  const after = headers.get("retry-after") ?? "";
  const seconds = /^\d+(\.\d+)?$/.test(after) ? Number(after) : 0;
  let told;
  try {
    told = JSON.parse(body);
  } catch {
    told = null;
  }
  const error = typeof told?.error === "string" ? told.error : body.slice(0, 1000);
  return new Refused(status, error, typeof told?.code === "string" ? told.code : null, seconds);
}

/** The headers of a message. Every attempt has the same key, so that the message is stored once. */
function posted(key = randomUUID()) {
  if (!isHeaderText(key) || key.length > LONGEST_KEY)
    throw new BadInput(`idempotencyKey: expected 1 to ${LONGEST_KEY} printable characters of ASCII`);
  return { ...JSON_TYPE, "idempotency-key": key };
}

/** Options as words of the query. */
function wordsOf(options) {
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
}

function encode(value) {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw new BadInput(`the message is not JSON: ${error.message.split("\n")[0]}`);
  }
}

function pathOf(id) {
  if (!/^\d{1,19}$/.test(String(id))) throw new BadInput("id: expected the id of a message, which is a number");
  return `/messages/${id}`;
}

function whole(value) {
  if (!Number.isInteger(value)) throw new TypeError();
  return value;
}

function text(value) {
  if (typeof value !== "string") throw new TypeError();
  return value;
}
