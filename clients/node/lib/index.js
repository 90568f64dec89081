// The client of a site's backend.

import { setTimeout as pauseFor } from "node:timers/promises";
import { inspect } from "node:util";

import { Attempts } from "./attempts.js";
import { authAnswer, tokenIn } from "./auth-url.js";
import * as calls from "./calls.js";
import { BadAnswer, RecadoError, Unreachable } from "./errors.js";
import { Settings } from "./settings.js";
import { signToken } from "./tokens.js";
import { verifyWebhook } from "./webhooks.js";

export { BadAnswer, BadInput, BadWebhook, RecadoError, Refused, Unreachable } from "./errors.js";
export { authAnswer, tokenIn };

/** Longer answers are not read: the longest page of a receipt has some 300 KB. */
const MAX_ANSWER_BYTES = 4 << 20;

/** A site's backend. Requests may run beside each other; nothing has to be closed. */
export class Client {
  #settings;

  constructor(options) {
    this.#settings = new Settings(options);
  }

  /** Send an event to rooms. It is stored for every addressed device when the promise resolves, and stored once. */
  async send(rooms, event, args, options) {
    return this.#run(calls.send(rooms, event, args, options));
  }

  /** Send at most 100 messages in their order; the answers say of each whether it is stored. */
  async sendBatch(messages, options) {
    return this.#run(calls.sendBatch(messages, options));
  }

  /** The fate of a message at each device. */
  async message(id, options) {
    return this.#run(calls.message(id, options));
  }

  /** The same as `message`. */
  async receipt(id, options) {
    return this.message(id, options);
  }

  /** Take a message out of every queue; the number of devices whose queue had it, 0 when a repeat finds it gone. */
  async withdraw(id) {
    return this.#run(calls.withdraw(id));
  }

  /** End the connections of a user, of a device, or in a room; the number of connections. */
  async disconnect(target) {
    return this.#run(calls.disconnect(target));
  }

  /** Let a user join and leave rooms while connected; the number of the user's devices. */
  async moveRooms(user, rooms) {
    return this.#run(calls.moveRooms(user, rooms));
  }

  /** The events of a request to the site's webhook, from its body as it came and its headers. */
  verifyWebhook(body, headers) {
    return verifyWebhook(body, headers, this.#settings.webhookKeys);
  }

  /** A token with which a page of this user connects, into these rooms. */
  signToken(user, rooms, options) {
    return signToken(this.#settings, user, rooms, options);
  }

  /** The answer of the site's `authUrl`: these rooms, or null for a user who is not let in. */
  authAnswer(rooms) {
    return authAnswer(rooms);
  }

  [inspect.custom]() {
    return `<Client of '${this.#settings.site}' at ${this.#settings.url}>`;
  }

  async #run(call) {
    const attempts = new Attempts(this.#settings, call.waitSeconds ?? 0, now());
    for (;;) {
      let pause;
      try {
        const answer = await this.#exchange(call, attempts.secondsLeft(now()));
        return calls.readAnswer(call, answer, attempts.hasRepeated);
      } catch (error) {
        if (!(error instanceof RecadoError)) throw error;
        pause = attempts.pauseBehind(error, now());
        if (pause === null) throw error;
      }
      await pauseFor(pause * 1000);
    }
  }

  async #exchange(call, seconds) {
    const query = new URLSearchParams({ site: this.#settings.site, ...call.query });
    // The key stands in a header, because URLs are logged.
    const own = { accept: "application/json", "accept-encoding": "identity", "x-api-key": this.#settings.apiKey };
    const signal = AbortSignal.timeout(Math.ceil(seconds * 1000));
    try {
      const headers = { ...own, ...call.headers };
      const request = { method: call.method, headers, body: call.body, redirect: "manual", signal };
      const answer = await this.#settings.fetch(`${this.#settings.url}${call.path}?${query}`, request);
      return { status: answer.status, headers: answer.headers, body: await wholeOf(answer) };
    } catch (error) {
      if (error instanceof RecadoError) throw error;
      const name = error?.cause?.code ?? error?.name ?? "Error";
      throw new Unreachable(`${call.method} ${call.path}: ${name}`, { cause: error });
    }
  }
}

/** The body of an answer as a text, when it is not too long. */
async function wholeOf(answer) {
  const parts = [];
  let length = 0;
  for await (const part of answer.body ?? []) {
    length += part.length;
    // Leaving the loop cancels the body, and so ends the connection.
    if (length > MAX_ANSWER_BYTES) throw new BadAnswer(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

/** A clock that never goes back, in seconds. */
function now() {
  return performance.now() / 1000;
}
