/** Types of /recado/messenger.js, the client of a messenger of Recado. */

/** The id of a user or a room: a number, beside `authUrl` text. */
export type Id = number | string;

/** A conversation: with a user, or in a room. */
export type To = { user: Id } | { room: Id };

export type State = "off" | "connecting" | "login" | "password" | "online";

export interface User {
  id: Id;
  login: string;
  name: string;
  sign: string;
  icon: string;
  admin: boolean;
  disabled: boolean;
  [field: string]: unknown;
}

export interface Room {
  id: Id;
  name: string;
  kind: string;
  icon?: string;
  description?: string;
  members?: Id[];
  admins?: Id[];
  archived?: boolean;
  object?: { type: string; id: string } | null;
  [field: string]: unknown;
}

export interface Contact {
  user: Id;
  name?: string | null;
  muted?: boolean;
  blocked?: boolean;
  [field: string]: unknown;
}

export interface FileInfo {
  id: string;
  name: string;
  type: string;
  size: number;
}

export interface Message {
  id: number;
  from: Id;
  to: { user?: Id; room?: Id };
  kind: string;
  text: string;
  data?: unknown;
  reply_to?: number | null;
  forward_of?: number | null;
  file?: FileInfo | null;
  /** Milliseconds since 1970, as every time here. */
  at: number;
  info?: { device: string | null; app: string | null };
  changed_at?: number;
}

/** A message as this browser keeps it. */
export interface KeptMessage extends Message {
  /** `r12` for a room, `u7` for the conversation with a user; see `conversationOf`. */
  conversation: string;
  /** The conversation again, while no device of the user has read it. */
  unread?: string;
  deleted?: false;
}

export type DeletedMessage = Partial<KeptMessage> & { id: number; deleted: true };

export interface Receipt {
  user: Id;
  device: string;
  state: "delivered" | "read";
  at: number;
}

/** What the page adds to a text. */
export interface MessageOptions {
  /** `text`, `link`, `code`, `file` or a word of the application; by default `text`. */
  kind?: string;
  /** Whatever the application wants; `format: "simple"` makes `render` read the marks of the text. */
  data?: unknown;
  reply_to?: number;
  forward_of?: number;
  file?: FileInfo | string;
}

/** A message that waits to be sent. */
export interface Outgoing extends MessageOptions {
  /** Its id until the server has given it a number. */
  id: string;
  to: To;
  kind: string;
  text: string;
  at: number;
}

export interface Accepted {
  id: number;
  at: number;
}

export interface Listed {
  messages: Message[];
  more: boolean;
}

export interface Limits {
  event_bytes?: number;
  events_waiting?: number;
  events_per_second?: number;
  iterations?: number;
  session_ttl?: number;
  files?: boolean;
  file_part?: number;
  file_max?: number;
}

export interface Device {
  /** Its deviceId. */
  id: string;
  name: string;
  os: string;
  osVersion: string;
  model: string;
  app: { name: string; reference: string; version: string } | null;
  seen_at: number;
}

/** The wish of a stranger to become a user; those who decide on it hear of it. */
export interface Registration {
  id: number;
  login: string;
  name: string;
  at: number;
  state: "waiting" | "accepted" | "refused";
}

export interface DirectoryChange {
  users?: User[];
  rooms?: Room[];
  contacts?: Contact[];
  devices?: Device[];
  registrations?: Registration[];
  [kind: string]: unknown;
}

export interface MessengerOptions {
  /** The name of the site. */
  site: string;
  /** The origin of the server; by default that of the page. */
  url?: string;
  /** socket.io-client 3 or 4; by default the global `io` of /socket.io/socket.io.js?v=4. */
  io?: (url: string, options: object) => any;
  /** The program that uses this library. */
  app?: { name: string; reference?: string; version?: string };
  /** More about the device: `os`, `osVersion`, `model`. */
  device?: { os?: string; osVersion?: string; model?: string; memory?: number; cores?: number };
  /** Beside a backend: its token, which each connect asks for. Then there is no login. */
  token?: () => string | Promise<string>;
  /** The name of the browser's database, for pages with several users; by default the site's. */
  storage?: string;
  /** More options of socket.io-client. */
  socket?: object;
}

export interface Events {
  /**
   * `login`: a login is expected, because there is no session or it is void; `password`: another password is expected.
   * The reason is the server's word, or Socket.IO's.
   */
  state: (state: State, reason?: string) => void;
  /** Messages that are new or have changed, after they are stored. One that is deleted has `deleted: true`. */
  messages: (messages: (KeptMessage | DeletedMessage)[]) => void;
  receipts: (receipts: (Receipt & { ids: number[] })[]) => void;
  /** Users, rooms, contacts or who is online have changed: the maps of the messenger have it already. */
  directory: (change: DirectoryChange) => void;
  presence: (presence: { user: Id; state: "online" | "away"; at: number }) => void;
  typing: (typing: { user: Id; to: To }) => void;
  /** A message of one's own waits to be sent. */
  outgoing: (message: Outgoing) => void;
  /** It is accepted: the number in the place of its id. */
  sent: (id: string, accepted: Accepted) => void;
  /** The server refuses it; it is not tried again. */
  failed: (message: Outgoing, error: MessengerError) => void;
  synced: (measured: { ms: number }) => void;
  /** Any other event that was sent to this user, by /send. */
  event: (name: string, args: unknown[]) => void;
  error: (error: unknown) => void;
}

/** A refusal. The codes are the server's; `offline`, `timeout`, `wrong_server` and `insecure` are this library's own. */
export class MessengerError extends Error {
  constructor(code?: string, message?: string, retryAfter?: number);
  code: string;
  /** Seconds, for `blocked` and `too_many`. */
  retryAfter?: number;
  /** The status of HTTP, for files. */
  status?: number;
}

/** One user's messenger on one device. */
export class Messenger {
  constructor(options: MessengerOptions);
  readonly state: State;
  readonly user: User | null;
  /** The id of this device; null before `open`. */
  readonly deviceId: string | null;
  readonly limits: Limits;
  readonly users: Map<Id, User>;
  readonly rooms: Map<Id, Room>;
  readonly contacts: Map<Id, Contact>;
  readonly devices: Map<string, Device>;
  readonly applications: Map<Id, { [field: string]: unknown }>;
  readonly registrations: Map<number, Registration>;
  readonly online: Set<Id>;
  /** Calls back for each event; returns the function that ends this. */
  on<Name extends keyof Events>(event: Name, handler: Events[Name]): () => void;
  /** Reads what this browser keeps and takes the session up; returns the user, or null. Without a session: `login`. */
  open(): Promise<User | null>;
  login(login: string, password: string): Promise<User>;
  /** Sets another password; every other session of the user ends. */
  changePassword(old: string, password: string): Promise<void>;
  register(wish: { login: string; name: string; password: string }): Promise<object>;
  /** Forgets what this browser keeps, and ends the session, with `all` every session of the user. Throws if the server
   * does not hear of it. */
  logout(options?: { all?: boolean }): Promise<void>;
  /** Leaves; messages wait for this device. `open` comes back. */
  close(): void;
  /**
   * Emits an event of the contract and returns the answer without `ok`; throws a MessengerError. For `edit`, `delete`,
   * `contact`, `profile`, `device_name`, `room_create`, `room_change`, `room_leave`, `room_archive`,
   * `registration_accept` and the rest.
   */
  ask(event: string, data?: object): Promise<any>;
  /** Sends a message, now or when there is a connection again. Resolves once it is accepted. */
  send(to: To, text: string, more?: MessageOptions): Promise<Accepted>;
  /** The messages that wait to be sent, oldest first. */
  outgoing(): Promise<Outgoing[]>;
  /** Tells the senders that these messages are read. */
  read(ids: number[]): Promise<void>;
  /** How many messages are unread, by conversation; see `conversationOf`. */
  unread(): Promise<Map<string, number>>;
  /** Messages that this browser keeps, oldest first. */
  messages(
    to: To,
    options?: { before?: number; limit?: number },
  ): Promise<(KeptMessage & { receipts: (Receipt & { message: number })[] })[]>;
  /** Messages as the server has them, newest first. */
  history(to: To, options?: { before?: number; limit?: number }): Promise<Listed>;
  search(text: string, options?: { with?: To; limit?: number }): Promise<Listed>;
  /** Tells that the user is typing, at most once in three seconds. */
  typing(to: To): void;
  /** Fetches everything that has changed. It happens by itself after each connect and after `_resync`. */
  sync(): Promise<void>;
  /** Uploads a file in parts, also over cuts and reloads of the page. */
  upload(
    file: File,
    options?: { onProgress?: (sent: number, size: number) => void; signal?: AbortSignal },
  ): Promise<FileInfo>;
  /** A URL of a file for an image or a link; it counts for a minute. */
  fileLink(id: string): Promise<string>;
}

/** The conversation of `{user}` or `{room}`, as a key. */
export function conversationOf(to: { user?: Id; room?: Id }): string;

/** A message's text as nodes, by its kind and by `data.format`; `anchor` makes the `href` of a quoted message. */
export function render(
  message: { kind: string; text: string; data?: unknown },
  anchor?: (id: string) => string,
): Node;
/** Text of `format: simple` as nodes. */
export function renderSimple(text: string, anchor?: (id: string) => string): DocumentFragment;
/** Code as a `<pre>`, with the classes recado-comment, recado-string, recado-number and recado-keyword. */
export function highlight(code: string, language?: string): HTMLElement;

/** One login by SCRAM-SHA-256, for programs that speak to the server themselves. */
export class Scram {
  constructor(login: string, password: string, nonce?: string);
  readonly first: string;
  /** Of the server's first message, once `final` was called. */
  readonly salt: Uint8Array;
  final(serverFirst: string, password?: string): Promise<string>;
  /** Throws unless the server has proved that it knows the keys. */
  check(serverFinal: string): void;
}
export function newKeys(
  password: string,
  iterations: number,
  salt?: Uint8Array,
): Promise<{ salt: string; iterations: number; stored_key: string; server_key: string }>;
export function saslprep(text: string): string;
