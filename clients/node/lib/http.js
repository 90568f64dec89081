// Handlers for `authUrl` and the webhook: functions of a request and an answer, as node:http and Express call them.

import { authAnswer, BadWebhook, tokenIn } from "./index.js";
import { MAX_BODY_BYTES } from "./webhooks.js";

/** A handler for the site's `authUrl`; `roomsOf(token, request)` gives the rooms, or null to refuse. */
export function authHandler(roomsOf) {
  return guarded(async (request, response) => {
    const token = tokenIn(request.headers.authorization);
    const { status, headers, body } = authAnswer(token === null ? null : await roomsOf(token, request));
    response.writeHead(status, headers).end(body);
  });
}

/** A handler for the site's webhook; `receive(event)` is awaited for each event before the server hears 204.
 * It reads the body itself: no parser of bodies stands before it. */
export function webhookHandler(client, receive) {
  return guarded(async (request, response) => {
    let events;
    try {
      events = client.verifyWebhook(await bodyOf(request), request.headers);
    } catch (error) {
      if (!(error instanceof BadWebhook)) throw error;
      response.writeHead(400).end();
      return;
    }
    for (const event of events) await receive(event);
    response.writeHead(204).end();
  });
}

/** An error goes to Express where there is one; else the answer is 500, and the server repeats the request. */
function guarded(handle) {
  return (request, response, next) =>
    handle(request, response).catch((error) => {
      if (typeof next === "function") next(error);
      else if (response.headersSent) response.destroy(error);
      else response.writeHead(500).end();
    });
}

/** The body, when it is not too long. A longer one is read to its end, so that its sender reads the answer; a stranger that
 * does not come to an end loses the connection. */
async function bodyOf(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length <= MAX_BODY_BYTES) parts.push(part);
    else if (length > 16 * MAX_BODY_BYTES) break;
  }
  if (length > MAX_BODY_BYTES) throw new BadWebhook("the body is too long");
  return Buffer.concat(parts);
}
