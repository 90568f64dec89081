// Verifies the requests of a site's webhook: the form of Standard Webhooks, in constant time, and only recent ones.

import { createHmac, timingSafeEqual } from "node:crypto";

import { BadInput, BadWebhook } from "./errors.js";

/** A request that is older, or that comes from further in the future, may be one that somebody has kept. */
const TOLERANCE_SECONDS = 300;
/** The server makes requests of at most 100 events, far below this. */
export const MAX_BODY_BYTES = 1 << 20;
const PREFIX = "whsec_";
const SHORTEST = 24;
const LONGEST = 64;
const MOST_SIGNATURES = 20;

/** The keys of one or several `whsec_...`. */
export function keysOf(secret) {
  const secrets = typeof secret === "string" ? [secret] : [...secret];
  return secrets.map((one) => {
    const text = String(one);
    const key = Buffer.from(text.slice(PREFIX.length), "base64");
    const isBase64 = /^[A-Za-z0-9+/]*={0,2}$/.test(text.slice(PREFIX.length));
    if (!text.startsWith(PREFIX) || !isBase64 || key.length < SHORTEST || key.length > LONGEST)
      throw new BadInput(`webhookSecret: expected ${PREFIX} and ${SHORTEST} to ${LONGEST} bytes in Base64`);
    return key;
  });
}

/** The events of a request, from its body as it came and its headers. */
export function verifyWebhook(body, headers, keys, now = Date.now() / 1000) {
  const raw = Buffer.from(body);
  if (raw.length > MAX_BODY_BYTES) throw new BadWebhook("the body is too long");
  if (keys.length === 0) throw new BadInput("webhookSecret: expected the secret of the site's webhook");
  const [id, moment, signatures] = ["id", "timestamp", "signature"].map((name) => headerOf(headers, `webhook-${name}`));
  if (!/^\d{1,15}$/.test(moment)) throw new BadWebhook("webhook-timestamp is missing, or no number");
  if (Math.abs(now - Number(moment)) > TOLERANCE_SECONDS)
    throw new BadWebhook("webhook-timestamp is too old, or in the future");
  const signed = Buffer.concat([Buffer.from(`${id}.${moment}.`), raw]);
  if (!keys.some((key) => isSigned(signed, key, signatures)))
    throw new BadWebhook("the signature is not that of this site");
  return eventsOf(raw);
}

/** A header of a Headers, of Node's requests, or of any object, whatever the case of its name. */
function headerOf(headers, name) {
  if (typeof headers.get === "function") return headers.get(name) ?? "";
  const key = Object.keys(headers).find((one) => one.toLowerCase() === name);
  return key === undefined ? "" : String(headers[key]);
}

function isSigned(signed, key, signatures) {
  const expected = Buffer.from(`v1,${createHmac("sha256", key).update(signed).digest("base64")}`);
  // Every signature is compared, so that the time tells nothing.
  return signatures
    .split(" ")
    .slice(0, MOST_SIGNATURES)
    .map((one) => Buffer.from(one))
    .map((one) => one.length === expected.length && timingSafeEqual(one, expected))
    .includes(true);
}

function eventsOf(raw) {
  let events;
  try {
    events = JSON.parse(raw.toString()).data.events;
  } catch {
    events = null;
  }
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!Array.isArray(events) || !events.every(isObject)) throw new BadWebhook("the body is not a list of events");
  return events;
}
