// The settings of a client, checked. The secrets are in private fields, which nothing prints.

import { BadInput } from "./errors.js";
import { keysOf } from "./webhooks.js";

const SHORTEST_TOKEN_SECRET = 32;
const NAMES = new Set([
  "url", "site", "apiKey", "webhookSecret", "tokenSecret", "tokenIssuer", "tokenAudience",
  "attemptTimeout", "deadline", "retries", "fetch",
]); // prettier-ignore

/** Lives as long as its client. */
export class Settings {
  #apiKey;
  #webhookKeys;
  #tokenSecret;

  constructor(options) {
    const given = { attemptTimeout: 10, deadline: 30, retries: 4, webhookSecret: [], tokenSecret: "", ...options };
    for (const [isRight, expected] of checks(given)) if (!isRight) throw new BadInput(expected);
    this.url = given.url.replace(/\/+$/, "");
    this.site = given.site;
    this.tokenIssuer = given.tokenIssuer;
    this.tokenAudience = given.tokenAudience;
    this.attemptTimeout = given.attemptTimeout;
    this.deadline = given.deadline;
    this.retries = given.retries;
    this.fetch = given.fetch ?? globalThis.fetch;
    this.#apiKey = given.apiKey;
    this.#webhookKeys = keysOf(given.webhookSecret);
    this.#tokenSecret = given.tokenSecret;
  }

  get apiKey() {
    return this.#apiKey;
  }

  get webhookKeys() {
    return this.#webhookKeys;
  }

  get tokenSecret() {
    return this.#tokenSecret;
  }
}

function* checks(given) {
  const unknown = Object.keys(given).find((name) => !NAMES.has(name));
  yield [unknown === undefined, `${unknown}: no such option`];
  yield [isAddress(given.url), "url: expected http:// or https:// with a host, without user, query and fragment"];
  yield [isText(given.site), "site: expected the name of a site"];
  yield [isHeaderText(given.apiKey), "apiKey: expected printable characters of ASCII"];
  const secret = given.tokenSecret;
  const isLong = typeof secret === "string" && Buffer.byteLength(secret) >= SHORTEST_TOKEN_SECRET;
  yield [secret === "" || isLong, `tokenSecret: expected ${SHORTEST_TOKEN_SECRET} bytes or more`];
  yield [secret === "" || isText(given.tokenIssuer), "tokenIssuer: expected the issuer beside tokenSecret"];
  yield [given.attemptTimeout > 0, "attemptTimeout: expected more than 0 seconds"];
  yield [given.deadline > 0, "deadline: expected more than 0 seconds"];
  yield [Number.isInteger(given.retries) && given.retries >= 0, "retries: expected 0 or more"];
}

function isText(value) {
  return typeof value === "string" && value !== "";
}

/** Whether a text can stand in a header: printable, of ASCII, not empty. */
export function isHeaderText(value) {
  return typeof value === "string" && /^[\x20-\x7e]+$/.test(value);
}

function isAddress(url) {
  if (typeof url !== "string" || !URL.canParse(url)) return false;
  const parts = new URL(url);
  return /^https?:$/.test(parts.protocol) && !/[?#]/.test(url) && !parts.username && !parts.password;
}
