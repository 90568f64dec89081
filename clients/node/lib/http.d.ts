// The types of the handlers for `authUrl` and the webhook.

import type { IncomingMessage, ServerResponse } from "node:http";

import type { Client, WebhookEvent } from "./index.js";

type Awaitable<T> = T | Promise<T>;
type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  next?: (error?: unknown) => void,
) => Promise<void>;

/** A handler for the site's `authUrl`; `roomsOf` gives the rooms of a token, or null to refuse. */
export function authHandler<Request extends IncomingMessage>(
  roomsOf: (token: string, request: Request) => Awaitable<ReadonlyArray<string | number> | null>,
): (request: Request, response: ServerResponse, next?: (error?: unknown) => void) => Promise<void>;

/** A handler for the site's webhook, which reads the body itself; each event is awaited before the answer. */
export function webhookHandler(client: Client, receive: (event: WebhookEvent) => Awaitable<void>): Handler;
