// The types of the client of a site's backend.

export type Rooms = string | number | ReadonlyArray<string | number>;

export interface ClientOptions {
  /** The server, such as `https://push.example.com`. */
  url: string;
  site: string;
  apiKey: string;
  /** `whsec_...`, or several while the secret is changed; for `verifyWebhook`. */
  webhookSecret?: string | readonly string[];
  /** 32 bytes or more, for `signToken`; the issuer stands beside it. */
  tokenSecret?: string;
  tokenIssuer?: string;
  tokenAudience?: string;
  /** Seconds of one attempt, to the last byte of its answer; 10 unless given. */
  attemptTimeout?: number;
  /** Seconds of a call with all its attempts and pauses; 30 unless given. */
  deadline?: number;
  /** Attempts after the first; 4 unless given. */
  retries?: number;
  /** Another `fetch`, for instance one with a proxy. */
  fetch?: typeof globalThis.fetch;
}

/** The options of a message, by the names of the query of `/send`. */
export interface MessageOptions {
  ttl?: number;
  collapse?: string;
  settle?: "device" | "user";
  ack_within?: number;
  notify?: "acked";
  id?: boolean;
}

export interface SendOptions extends MessageOptions {
  resync?: boolean;
  wait?: "any" | "all";
  /** Seconds that the server waits with `wait`; 5 unless given. */
  timeout?: number;
  /** A key of one's own, for a call that may be repeated later; else each call makes one. */
  idempotencyKey?: string;
}

export interface BatchMessage extends MessageOptions {
  rooms: Rooms;
  event: string;
  args?: unknown;
}

export interface Sent {
  id: string;
  /** The devices; on a site without queues, the nodes that were told. */
  recipients: number;
  /** Whether an earlier attempt, or call with the same key, had stored it already. */
  replayed: boolean;
  /** With `wait`: the devices that have acknowledged, and those that have not. */
  acked?: number;
  waiting?: number;
}

export type BatchAnswer =
  | { ok: true; id: string; recipients: number }
  | { ok: false; status: number; error: string; code?: string };

export type FateState =
  | "waiting"
  | "written"
  | "acked"
  | "expired"
  | "replaced"
  | "settled"
  | "withdrawn"
  | "resynced";

export interface DeviceFate {
  user: string;
  device: string;
  state: FateState;
  written_at: string | null;
  acked_at: string | null;
  reason: string;
  ms?: number;
  batch?: true;
  ended_at?: string;
}

export interface Receipt {
  id: string;
  site: string;
  event: string;
  rooms: string[];
  bytes: number;
  accepted_at: string;
  options: Record<string, unknown>;
  summary: Record<string, number>;
  devices: DeviceFate[];
  /** For the next page of devices; null ends the list. */
  cursor: string | null;
  /** Only what still waits is known, or the journal is behind. */
  partial?: true;
  body?: unknown[] | null;
}

export interface WebhookEvent {
  type: string;
  seq?: number;
  at: string;
  [field: string]: unknown;
}

export interface AuthAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface DisconnectTarget {
  user?: string;
  device?: string;
  room?: string;
  /** The reason that the clients get. */
  text?: string;
  /** Whether the clients are to come back at once. */
  reconnect?: boolean;
}

/** The headers of a request: those of fetch, or of `node:http`. */
export type HeadersLike =
  | { get(name: string): string | null }
  | Record<string, string | string[] | undefined>;

export class Client {
  constructor(options: ClientOptions);
  send(rooms: Rooms, event: string, args?: unknown, options?: SendOptions): Promise<Sent>;
  sendBatch(messages: readonly BatchMessage[], options?: { idempotencyKey?: string }): Promise<BatchAnswer[]>;
  message(id: string, options?: { limit?: number; cursor?: string; bodies?: boolean }): Promise<Receipt>;
  receipt(id: string, options?: { limit?: number; cursor?: string; bodies?: boolean }): Promise<Receipt>;
  withdraw(id: string): Promise<number>;
  disconnect(target: DisconnectTarget): Promise<number>;
  moveRooms(
    user: string,
    rooms: { join?: ReadonlyArray<string | number>; leave?: ReadonlyArray<string | number> },
  ): Promise<number>;
  verifyWebhook(body: string | Uint8Array, headers: HeadersLike): WebhookEvent[];
  signToken(
    user: string | number,
    rooms?: ReadonlyArray<string | number>,
    options?: { expiresIn?: number; claims?: Record<string, unknown> },
  ): string;
  authAnswer(rooms: ReadonlyArray<string | number> | null): AuthAnswer;
}

export function authAnswer(rooms: ReadonlyArray<string | number> | null): AuthAnswer;
export function tokenIn(authorization: string | undefined | null): string | null;

export class RecadoError extends Error {
  /** Whether the same call may succeed a moment later. */
  readonly passes: boolean;
}
/** A value cannot be meant; nothing was sent. */
export class BadInput extends RecadoError {}
/** The server answered an error. */
export class Refused extends RecadoError {
  readonly status: number;
  readonly code: string | null;
  readonly error: string;
  readonly retryAfter: number;
}
/** No answer came, or not in time. The server may have done what was asked. */
export class Unreachable extends RecadoError {}
/** The answer is too long, or not what a Recado server answers. */
export class BadAnswer extends RecadoError {}
/** A webhook that this site's server has not made, or not now: answer 400. */
export class BadWebhook extends RecadoError {}
