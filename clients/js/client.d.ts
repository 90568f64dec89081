/** The client of Recado's sites for pages. */

import type { ManagerOptions, Socket, SocketOptions } from "socket.io-client";

/** Connects to a site; `url` ends with the site's name, such as "https://push.example.com/newsite". */
export function connect(url: string, options?: RecadoOptions): Recado;

/** Makes the object store for positions; a page calls it while its database is upgraded. `name` is "recado" by default. */
export function createStore(database: IDBDatabase, name?: string): void;

/** One connection of a page; lives until `close`. */
export interface Recado {
  /** The socket of socket.io-client, for `emit` and for the state of the connection. */
  readonly socket: Socket;
  /**
   * Calls `handler` for each such event, one at a time and in order; the message is acknowledged when all its handlers
   * have resolved. "*" stands for every other event whose name does not begin with `_`.
   */
  on(event: string, handler: Handler): this;
  /** Takes a handler back. */
  off(event: string, handler: Handler): this;
  /** Ends the connection for good. */
  close(): void;
}

/** Gets the arguments of the event, and behind them the message. */
export type Handler = (...args: any[]) => unknown;

/** The last argument of a handler. */
export interface Message {
  readonly event: string;
  /** The number of the message in its site, which grows from message to message; undefined for events of the server. */
  readonly position?: number;
  /** Set with `store`: the page writes in it, and awaits nothing else meanwhile. */
  readonly transaction?: IDBTransaction;
}

export interface RecadoOptions {
  /** Names the user; a function is asked at each connect without a ticket, and before the token runs out. */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** By default made once, and kept for the browser (with `store`) or for the tab. */
  deviceId?: string;
  /** Goes to `authUrl` as the header `X-META`. */
  meta?: string;
  /** Keeps the positions of handled messages in the page's database: each message takes effect once. */
  store?: StoreOptions;
  /** Fetches everything again; called when messages were lost. Until it resolves, later messages wait. */
  reload?: () => unknown;
  /** Takes a message that has failed `tries` times; without it `reload` does. */
  failed?: (error: unknown, event: string, args: unknown[]) => unknown;
  /** Told of every error, with the event and the arguments of the message; `console.error` by default. */
  onError?: (error: unknown, event?: string, args?: unknown[]) => void;
  /** Milliseconds that the handlers of one message may take; 30,000 by default. */
  timeout?: number;
  /** How often a message is handed to its handlers before `failed` or `reload` stands for it; 8 by default. */
  tries?: number;
  /** Milliseconds before the first repeat of something that has failed, doubled each time; 2,000 by default. */
  least?: number;
  /** The longest time between two tries, in milliseconds; 60,000 by default. */
  most?: number;
  /** How many positions are kept; 20,000 by default. It is at least the site's `queue_limit`. */
  keep?: number;
  /** Options of socket.io-client. */
  socket?: Partial<ManagerOptions & SocketOptions>;
  /** The function `io` of socket.io-client; the global one by default. The package brings its own. */
  io?: (url: string, options: any) => Socket;
}

export interface StoreOptions {
  /** The page's database, or a function that opens it. */
  database: IDBDatabase | Promise<IDBDatabase> | (() => IDBDatabase | Promise<IDBDatabase>);
  /** The object stores in which handlers write. */
  stores?: string[];
  /** The object store that `createStore` has made; "recado" by default. */
  name?: string;
  /** Names the user where several share a database; the `deviceId` by default. */
  scope?: string;
  /** How safely a transaction is on the disk before the message is acknowledged; the browser's default if not given. */
  durability?: IDBTransactionDurability;
}
