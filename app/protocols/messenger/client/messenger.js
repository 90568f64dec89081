/** The client of a messenger of Recado. Types: messenger.d.ts; guide: docs/messenger.md. */

const ASK_MS = 20_000;
const AGAIN_MS = 1_000;
const READ_MS = 300;
const TYPING_MS = 3_000;
const SYNC_BYTES = 262_144;
const MOST_IDS = 1_000;
const LEAST_ITERATIONS = 4_096;
const MOST_ITERATIONS = 1_000_000;
/** The codes after which the same request may succeed later. */
const PASSING = ["offline", "timeout", "unavailable", "too_many", "not_logged_in", "must_change_password"];
const KINDS = ["users", "rooms", "contacts", "devices", "applications", "registrations"];

/** A refusal, with the server's code; `offline`, `timeout`, `wrong_server` and `insecure` are this library's own. */
export class MessengerError extends Error {
  constructor(code, message = code, retryAfter) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// SCRAM-SHA-256 (RFC 5802, RFC 7677)

const utf8 = (text) => new TextEncoder().encode(text);
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const bytesOf = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
const random = (count) => crypto.getRandomValues(new Uint8Array(count));
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const hex = async (text) => (await sha256(utf8(text))).reduce((all, one) => all + (one + 256).toString(16).slice(1), "");

async function hmac(key, text) {
  const made = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", made, utf8(text)));
}

/** Text as SASLprep (RFC 4013) prepares it: what looks the same is the same. */
export function saslprep(text) {
  const prepared = text
    .replace(/[\u00ad\u034f\u1806\u180b-\u180d\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]/g, "")
    .replace(/[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/g, " ")
    .normalize("NFKC");
  if (/[\p{Cc}\p{Co}\p{Cs}\u0340\u0341\u200e\u200f\u2028-\u202e\u206a-\u206f\ufff9-\ufffd]/u.test(prepared)) {
    throw new MessengerError("bad_request");
  }
  return prepared;
}

async function keysOf(password, salt, iterations) {
  const key = await crypto.subtle.importKey("raw", utf8(saslprep(password)), "PBKDF2", false, ["deriveBits"]);
  const salted = await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations }, key, 256);
  const client = await hmac(salted, "Client Key");
  return { client, stored: await sha256(client), server: await hmac(salted, "Server Key") };
}

/** The keys of a new password as the server stores them; the password does not follow from them. */
export async function newKeys(password, iterations, salt = random(16)) {
  const keys = await keysOf(password, salt, iterations);
  return { salt: base64(salt), iterations, stored_key: base64(keys.stored), server_key: base64(keys.server) };
}

/** One login: `first`, then `final` with the server's answer, then `check` with its last word. */
export class Scram {
  #password;
  #nonce;
  #bare;
  #signatures = [];

  constructor(login, password, nonce = base64(random(18))) {
    this.#password = password;
    this.#nonce = nonce;
    this.#bare = `n=${saslprep(login).replaceAll("=", "=3D").replaceAll(",", "=2C")},r=${nonce}`;
    this.first = `n,,${this.#bare}`;
  }

  /** The last message, for the password or for another form of it. */
  async final(serverFirst, password = this.#password) {
    const [, nonce, salt, count] = /^r=([!-+\--~]+),s=([\w+/=]+),i=(\d{1,7})(?:,|$)/.exec(serverFirst) ?? [];
    const iterations = +count;
    const isOurs = nonce !== this.#nonce && nonce?.startsWith(this.#nonce);
    if (!(isOurs && iterations >= LEAST_ITERATIONS && iterations <= MOST_ITERATIONS)) {
      throw new MessengerError("wrong_server");
    }
    const keys = await keysOf(password, (this.salt = bytesOf(salt)), iterations);
    const bare = `c=biws,r=${nonce}`;
    const about = `${this.#bare},${serverFirst},${bare}`;
    const signature = await hmac(keys.stored, about);
    this.#signatures.push(`v=${base64(await hmac(keys.server, about))}`);
    return `${bare},p=${base64(keys.client.map((byte, at) => byte ^ signature[at]))}`;
  }

  /** Throws unless the server has proved that it knows the keys. */
  check(serverFinal) {
    if (!this.#signatures.includes(serverFinal.split(",")[0])) {
      throw new MessengerError("wrong_server");
    }
  }
}

// The browser's database

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function openStore(name) {
  const request = indexedDB.open(name, 2);
  request.onupgradeneeded = ({ oldVersion }) => {
    const db = request.result;
    if (!oldVersion) {
      ["meta", "uploads", "directory"].forEach((name) => db.createObjectStore(name));
      db.createObjectStore("receipts", { keyPath: ["message", "user", "device", "state"] });
      db.createObjectStore("outgoing", { autoIncrement: true, keyPath: "order" });
      db.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", ["conversation", "id"]);
    }
    // Only messages that are unread have this field.
    request.transaction.objectStore("messages").createIndex("unread", "unread");
  };
  return settled(request);
}

const conversationRange = (name, before = Infinity) =>
  IDBKeyRange.bound([name, -Infinity], [name, before], false, true);

/** The conversation of `{user}` or `{room}`, as a key. */
export const conversationOf = (to) => (to.room == null ? `u${to.user}` : `r${to.room}`);

/** One user's messenger on one device. Lives until `close`, and again from the next `open`. */
export class Messenger {
  /** "off", "connecting", "login" (expected), "password" (another one is expected) or "online". */
  state = "off";
  user = null;
  deviceId = null;
  limits = {};
  /** The users who are online. */
  online = new Set();
  #options;
  #handlers = {};
  #opening;
  #db;
  #socket;
  #session;
  #cursor;
  #reads = [];
  #asked = new Set();
  #sent = new Map();
  #typed = new Map();
  #line = Promise.resolve();
  #syncing = Promise.resolve();
  #busy = new Set();
  #again;

  constructor(options) {
    KINDS.forEach((kind) => (this[kind] = new Map()));
    this.#options = { url: location.origin, io: globalThis.io, storage: options.site, socket: {}, ...options };
  }

  /** Calls back for each event; returns the function that ends this. */
  on(event, handler) {
    const handlers = (this.#handlers[event] ??= new Set());
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  /** Reads what is kept and takes the session up, if there is one; returns its user, or null. */
  async open() {
    await this.#ready();
    if (!(this.#session ??= this.#options.token)) {
      this.#change("login");
    } else if (!this.#socket?.active) {
      this.#connect();
    }
    return this.user;
  }

  /** Logs in; returns the user. The password does not leave this function. */
  async login(login, password) {
    if (!globalThis.crypto?.subtle) {
      throw new MessengerError("insecure");
    }
    await this.#ready();
    if (this.#session) {
      this.close();
      await this.#saveMeta("session", (this.#session = undefined));
    }
    await this.#connected();
    await this.#prove("proof", login, password);
    return this.user;
  }

  /** Sets another password; every other session of the user ends. */
  async changePassword(old, password) {
    await this.#prove("password", this.user.login, old, password);
  }

  /** Asks for a user of one's own; somebody has to accept it. */
  async register({ login, name, password }) {
    await this.#ready();
    await this.#connected();
    return this.ask("register", { login, name, ...(await newKeys(password, this.#iterations)) });
  }

  /** Ends the session (`all`: every session of the user) and forgets everything but the device's id. */
  async logout({ all = false } = {}) {
    try {
      await this.ask("logout", { all });
    } finally {
      await this.#queue(() => this.#forget());
      this.close();
      this.#change("login");
    }
  }

  /** Leaves; messages wait for this device. */
  close() {
    clearTimeout(this.#again);
    this.#socket?.disconnect();
    this.#change("off");
  }

  /** Emits an event of the contract and returns its answer. */
  ask(event, data = {}) {
    return new Promise((resolve, reject) => {
      if (!this.#socket?.connected) {
        reject(new MessengerError("offline"));
        return;
      }
      const end = (error, answer) => {
        clearTimeout(timer);
        this.#asked.delete(end);
        error ? reject(error) : resolve(answer);
      };
      const timer = setTimeout(() => end(new MessengerError("timeout")), ASK_MS);
      this.#asked.add(end);
      this.#socket.emit(event, data, ({ ok, error, ...answer }) =>
        ok ? end(null, answer) : end(new MessengerError(error.code, error.message, error.retry_after)),
      );
    });
  }

  // Conversations

  /**
   * Sends a message, now or when there is a connection again; a repetition has the same id. `more`: kind, data,
   * reply_to, forward_of, file (of `upload`, or its id). Resolves with `{id, at}` once it is accepted.
   */
  async send(to, text, more = {}) {
    await this.#ready();
    const message = { kind: "text", ...more, id: crypto.randomUUID(), to, text, at: Date.now() };
    await this.#row("outgoing", "add", { message });
    const accepted = new Promise((resolve, reject) => this.#sent.set(message.id, { resolve, reject }));
    this.#tell("outgoing", message);
    this.#flush();
    return accepted;
  }

  /** The messages that wait to be sent, oldest first. */
  async outgoing() {
    return (await this.#row("outgoing", "getAll")).map((row) => row.message);
  }

  /** Tells the senders that these messages are read. Repeats and own messages are left out. */
  async read(ids) {
    const transaction = this.#db.transaction(["messages", "meta"], "readwrite");
    const store = transaction.objectStore("messages");
    for (const id of ids) {
      if (await this.#markRead(store, id)) {
        this.#reads.push(id);
      }
    }
    await settled(transaction.objectStore("meta").put(this.#reads, "reads"));
    setTimeout(() => this.#tellRead(), READ_MS);
  }

  /** Whether the message was unread until now. */
  async #markRead(rows, id) {
    const row = await settled(rows.get(id));
    if (row?.unread) {
      delete row.unread;
      rows.put(row);
      return true;
    }
  }

  /** The numbers of messages that are unread on every device of the user, by conversation. */
  async unread() {
    const counts = new Map();
    const index = this.#db.transaction("messages").objectStore("messages").index("unread");
    for (const { unread } of await settled(index.getAll())) {
      counts.set(unread, (counts.get(unread) ?? 0) + 1);
    }
    return counts;
  }

  /** Messages of a conversation that this browser keeps, oldest first, each with its `receipts`. */
  async messages(to, { before, limit = 50 } = {}) {
    const transaction = this.#db.transaction(["messages", "receipts"]);
    const index = transaction.objectStore("messages").index("conversation");
    const found = [];
    await new Promise((resolve, reject) => {
      const walk = index.openCursor(conversationRange(conversationOf(to), before), "prev");
      walk.onerror = () => reject(walk.error);
      walk.onsuccess = () => {
        if (!walk.result || found.length === limit) {
          resolve();
          return;
        }
        found.unshift(walk.result.value);
        walk.result.continue();
      };
    });
    const receipts = transaction.objectStore("receipts");
    const rows = found.map(({ id }) => settled(receipts.getAll(IDBKeyRange.bound([id], [id, []]))));
    return Promise.all(found.map(async (message, at) => ({ ...message, receipts: await rows[at] })));
  }

  /** Messages of a conversation as the server has them, newest first. */
  history(to, { before, limit = 50 } = {}) {
    return this.ask("history", { with: to, limit, ...(before == null ? {} : { before }) });
  }

  search(text, { with: to, limit = 50 } = {}) {
    return this.ask("search", { text, limit, ...(to ? { with: to } : {}) });
  }

  /** Tells that the user is typing, at most once in three seconds. */
  typing(to) {
    const key = conversationOf(to);
    if (this.state === "online" && Date.now() - (this.#typed.get(key) ?? 0) >= TYPING_MS) {
      this.#typed.set(key, Date.now());
      this.ask("typing", { to }).catch(() => {});
    }
  }

  /** Fetches everything that has changed. It happens by itself after each connect and after `_resync`. */
  sync() {
    return (this.#syncing = this.#syncing.catch(() => {}).then(() => this.#fetchAll()));
  }

  // Files (tus 1.0)

  /** Uploads a file in parts, also over cuts and reloads of the page; returns `{id, name, type, size}`. */
  async upload(file, { onProgress = () => {}, signal } = {}) {
    const { name = "", type, size } = file;
    const key = [name, size, file.lastModified ?? 0, this.user.id];
    let location = await this.#row("uploads", "get", key);
    let offset = location ? undefined : 0;
    for (;;) {
      signal?.throwIfAborted();
      try {
        if (!location) {
          const header = await this.#tus("POST", `/${this.#options.site}/files/`, {
            "Upload-Length": size,
            "Upload-Metadata": `filename ${base64(utf8(name))},filetype ${base64(utf8(type))}`,
          });
          location = header("Location");
          await this.#row("uploads", "put", location, key);
        }
        offset ??= Number((await this.#tus("HEAD", location))("Upload-Offset"));
        onProgress(offset, size);
        if (offset >= size) {
          break;
        }
        const headers = { "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
        const part = file.slice(offset, offset + (this.limits.file_part ?? SYNC_BYTES));
        offset = Number((await this.#tus("PATCH", location, headers, part, signal))("Upload-Offset"));
      } catch (error) {
        const isGone = location && [404, 410].includes(error.status);
        if (!(isGone || error instanceof TypeError || [409, 423, 429, 503].includes(error.status))) {
          throw error;
        }
        // Cut off: the server knows how far it came. An upload that it knows no more begins again.
        location = isGone ? undefined : location;
        offset = location ? undefined : 0;
        await pause(AGAIN_MS);
      }
    }
    await this.#row("uploads", "delete", key);
    return { id: location.split("/").pop(), name, type, size };
  }

  /** A URL of the file for an image or a link; it counts for a minute. */
  async fileLink(id) {
    const { url } = await this.ask("file_link", { id });
    return new URL(url, this.#options.url).href;
  }

  async #tus(method, path, headers, body, signal) {
    const answer = await fetch(new URL(path, this.#options.url), {
      method,
      headers: { "Tus-Resumable": "1.0.0", Authorization: `Bearer ${this.#session}`, ...headers },
      body,
      signal,
    });
    if (!answer.ok) {
      const { error = {} } = await answer.json().catch(() => ({}));
      throw Object.assign(new MessengerError(error.code, error.message), { status: answer.status });
    }
    return (name) => answer.headers.get(name);
  }

  // The connection

  #connect() {
    clearTimeout(this.#again);
    this.#change(this.#session ? "connecting" : "login");
    if (this.#socket) {
      this.#socket.connect();
      return;
    }
    const { url, site, io, app, device, token, socket: more } = this.#options;
    const told = { cores: navigator.hardwareConcurrency, memory: navigator.deviceMemory, ...device };
    const auth = async (send) =>
      send({ deviceId: this.deviceId, session: this.#session, token: await token?.(), app, device: told });
    const socket = (this.#socket = io(`${url}/${site}`, { ...more, forceNew: true, auth }));
    socket.on("connect_error", (error) => this.#refused(error));
    socket.on("disconnect", (reason) => this.#left(reason));
    socket.onAny((event, ...args) => {
      const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
      this.#queue(() => this.#receive(event, args, acknowledge)).catch((error) => this.#tell("error", error));
    });
  }

  /** Waits for a connection without a session. */
  async #connected() {
    if (!this.#socket?.connected) {
      this.#connect();
      const socket = this.#socket;
      await new Promise((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("connect_error", (error) => reject(new MessengerError("offline", error.message)));
      });
    }
  }

  #refused(error) {
    if (error.message === "session_void") {
      this.#session = undefined;
      this.#saveMeta("session", undefined);
      this.#change("login", error.message);
    } else {
      this.#change(this.#session ? "connecting" : "login", error.message);
      this.#reconnect();
    }
  }

  #left(reason) {
    for (const end of this.#asked) {
      end(new MessengerError("offline"));
    }
    this.online.clear();
    if (reason === "io client disconnect") {
      return;
    }
    this.#change(this.#session ? "connecting" : "login", reason);
    this.#reconnect();
  }

  /** Socket.IO comes back by itself after a loss, not after a refusal. */
  #reconnect() {
    if (this.#session && !this.#socket.active) {
      clearTimeout(this.#again);
      this.#again = setTimeout(() => this.#socket.connect(), AGAIN_MS * (1 + 4 * Math.random()));
    }
  }

  #change(state, reason) {
    if (this.state !== state) {
      this.state = state;
      this.#tell("state", state, reason);
    }
  }

  #tell(event, ...args) {
    for (const handler of this.#handlers[event] ?? []) {
      try {
        handler(...args);
      } catch (error) {
        console.error(error);
      }
    }
  }

  /** Work on the database in the order in which it came. */
  #queue(work) {
    const done = this.#line.then(work);
    this.#line = done.catch(() => {});
    return done;
  }

  async #receive(event, args, acknowledge) {
    const events = event === "_batch" ? args[0] : [[event, ...args]];
    const messages = [];
    const receipts = [];
    const rest = [];
    for (const one of events) {
      const list = { message: messages, message_changed: messages, receipt: receipts }[one[0]];
      list ? list.push(one[1]) : rest.push(one);
    }
    if (messages.length + receipts.length) {
      await this.#keep({ messages, receipts });
    }
    for (const [name, ...data] of rest) {
      await this.#hear(name, data);
    }
    acknowledge?.();
  }

  async #hear(name, args) {
    const [data] = args;
    if (name === "_settings") {
      // Without a session the server has not proved yet that it knows the keys.
      this.#session && (await this.#begin(data));
    } else if (name === "_session") {
      await this.#saveMeta("session", (this.#session = data.session));
    } else if (name === "_resync") {
      this.sync().catch((error) => this.#tell("error", error));
    } else if (name === "directory") {
      await this.#keep(data);
    } else if (name === "presence") {
      this.online[data.state === "online" ? "add" : "delete"](data.user);
      this.#tell("presence", data);
    } else if (name === "typing") {
      this.#tell("typing", data);
    } else {
      this.#tell("event", name, args);
    }
  }

  /** A session begins, or goes on. */
  async #begin({ session, user = this.user, limits, must_change_password: mustChange = false }) {
    if (this.user && this.user.id !== user.id) {
      await this.#forget();
    }
    this.user = user;
    this.limits = limits ?? this.limits;
    await this.#saveMeta("user", user);
    await this.#saveMeta("session", (this.#session = session ?? this.#session));
    if (mustChange) {
      this.#change("password");
    } else if (this.state !== "online" && this.#socket.connected) {
      this.#change("online");
      this.sync().catch((error) => this.#tell("error", error));
      this.#flush();
      this.#tellRead();
    }
  }

  async #prove(event, login, password, next) {
    const scram = new Scram(login, password);
    const { data, forms } = await this.ask("login", { data: scram.first });
    // The server tells nobody which users of a site have a password of push0k: both proofs go.
    const more = forms && { forms: { push0k: await scram.final(data, await hex(await hex(password))) } };
    const answer = await this.ask(event, {
      data: await scram.final(data),
      ...more,
      // The salt stays: another one would tell strangers that somebody has this login.
      ...(next && (await newKeys(next, this.#iterations, scram.salt))),
    });
    try {
      scram.check(answer.data);
    } catch (error) {
      this.close();
      throw error;
    }
    await this.#queue(() => this.#begin(answer));
  }

  get #iterations() {
    return this.limits.iterations ?? 600_000;
  }

  // What is kept

  #ready() {
    return (this.#opening ??= this.#load());
  }

  async #load() {
    this.#db = await openStore(`recado ${this.#options.url} ${this.#options.site} ${this.#options.storage}`);
    const transaction = this.#db.transaction(["meta", "directory"]);
    const meta = transaction.objectStore("meta");
    const names = ["device", "session", "user", "cursor", "reads"];
    const found = names.map((name) => settled(meta.get(name)));
    const things = await settled(transaction.objectStore("directory").getAll());
    const [device, session, user, cursor, reads] = await Promise.all(found);
    this.#session = session;
    this.user = user ?? null;
    this.#cursor = cursor;
    this.#reads = reads ?? [];
    for (const [kind, id, thing] of things) {
      this[kind].set(id, thing);
    }
    this.deviceId = device ?? crypto.randomUUID();
    if (!device) {
      await this.#saveMeta("device", this.deviceId);
    }
  }

  /** One request to one store of the database. */
  #row(store, method, ...args) {
    const mode = method.startsWith("get") ? "readonly" : "readwrite";
    return settled(this.#db.transaction(store, mode).objectStore(store)[method](...args));
  }

  #saveMeta(name, value) {
    return this.#row("meta", "put", value, name);
  }

  async #forget() {
    const names = [...this.#db.objectStoreNames];
    const transaction = this.#db.transaction(names, "readwrite");
    names.forEach((name) => transaction.objectStore(name).clear());
    await settled(transaction.objectStore("meta").put(this.deviceId, "device"));
    this.user = null;
    this.#session = this.#cursor = undefined;
    this.#reads = [];
    this.#sent.forEach(({ reject }) => reject(new MessengerError("offline")));
    this.#sent.clear();
    for (const known of [...KINDS.map((kind) => this[kind]), this.online]) {
      known.clear();
    }
  }

  /** Stores messages, receipts and changes of the directory, with the cursor, in one transaction; then tells of them. */
  async #keep({ messages = [], receipts = [], cursor, online, ...reference }) {
    const names = ["messages", "receipts", "directory", "meta"];
    const transaction = this.#db.transaction(names, "readwrite", { durability: "strict" });
    const committed = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const [rows, marks, directory, meta] = names.map((name) => transaction.objectStore(name));
    for (const kind of KINDS) {
      for (const thing of reference[kind] ?? []) {
        const id = thing.id ?? thing.user;
        if (thing.deleted) {
          this[kind].delete(id);
          directory.delete([kind, id]);
          kind === "rooms" && (await this.#dropRoom(rows, id));
        } else {
          this[kind].set(id, thing);
          directory.put([kind, id, thing], [kind, id]);
        }
      }
    }
    const told = [];
    const before = new Map();
    await Promise.all(messages.map(async ({ id }) => before.set(id, await settled(rows.get(id)))));
    for (const message of messages) {
      const old = before.get(message.id);
      if (old?.deleted || (old && !message.deleted && (message.changed_at ?? 0) <= (old.changed_at ?? 0))) {
        continue;
      }
      const to = message.to?.room == null && message.from !== this.user.id ? { user: message.from } : message.to;
      const conversation = conversationOf(to);
      const row = message.deleted ? { id: message.id, deleted: true } : { ...message, conversation };
      if (!message.deleted && (old ? old.unread : message.from !== this.user.id)) {
        row.unread = conversation;
      }
      before.set(message.id, row);
      rows.put(row);
      told.push(message.deleted ? { ...old, ...message } : row);
    }
    for (const { ids, ...receipt } of receipts) {
      for (const message of ids) {
        // Of one's own: another device has read it.
        receipt.user === this.user.id ? await this.#markRead(rows, message) : marks.put({ message, ...receipt });
      }
    }
    if (cursor !== undefined) {
      meta.put((this.#cursor = cursor), "cursor");
    }
    await committed;
    if (online) {
      this.online = new Set(online.map((one) => one.user ?? one));
    }
    if (online || KINDS.some((kind) => reference[kind]?.length)) {
      this.#tell("directory", reference);
    }
    told.length && this.#tell("messages", told);
    receipts.length && this.#tell("receipts", receipts);
  }

  /** A room that was left is seen no more. */
  async #dropRoom(rows, id) {
    const keys = await settled(rows.index("conversation").getAllKeys(conversationRange(`r${id}`)));
    keys.forEach((key) => rows.delete(key));
  }

  async #fetchAll() {
    const began = performance.now();
    for (let more = true; more; ) {
      const part = await this.ask("sync", { cursor: this.#cursor ?? null, bytes: SYNC_BYTES });
      more = part.more;
      await this.#queue(() => this.#keep(part));
    }
    const ms = Math.round(performance.now() - began);
    this.#tell("synced", { ms });
    this.ask("synced", { ms }).catch(() => {});
  }

  /** Does this work unless it is under way. */
  async #alone(name, work) {
    if (this.#busy.has(name)) {
      return;
    }
    this.#busy.add(name);
    try {
      await work();
    } catch (error) {
      this.#tell("error", error);
    }
    this.#busy.delete(name);
  }

  /** Sends what waits, one after the other, so that it arrives in its order. */
  #flush() {
    return this.#alone("send", async () => {
      let next;
      while (this.state === "online" && ([next] = await this.#row("outgoing", "getAll", null, 1))[0]) {
        await this.#sendOne(next);
      }
    });
  }

  async #sendOne({ order, message }) {
    const { at, file, ...rest } = message;
    const waiting = this.#sent.get(message.id);
    try {
      const accepted = await this.ask("message", { ...rest, ...(file && { file: file.id ?? file }) });
      await this.#queue(async () => {
        const info = { device: this.deviceId, app: this.#options.app?.name ?? null };
        const own = { ...rest, ...accepted, from: this.user.id, info, ...(file?.id && { file }) };
        await this.#row("outgoing", "delete", order);
        this.#tell("sent", message.id, accepted);
        await this.#keep({ messages: [own] });
      });
      waiting?.resolve(accepted);
    } catch (error) {
      if (PASSING.includes(error.code)) {
        await pause(AGAIN_MS * (error.retryAfter ?? 1));
        return;
      }
      if (!(error instanceof MessengerError)) {
        throw error;
      }
      await this.#row("outgoing", "delete", order);
      this.#tell("failed", message, error);
      waiting?.reject(error);
    }
    this.#sent.delete(message.id);
  }

  #tellRead() {
    return this.#alone("read", async () => {
      while (this.state === "online" && this.#reads.length) {
        const ids = this.#reads.slice(0, MOST_IDS);
        try {
          await this.ask("receipts", { ids, state: "read" });
        } catch (error) {
          if (PASSING.includes(error.code)) {
            // Told after the next connect, or with the next message that is read.
            return;
          }
        }
        this.#reads = this.#reads.slice(ids.length);
        await this.#saveMeta("reads", this.#reads);
      }
    });
  }
}

// Rendering: nothing of the sender becomes HTML

const INLINE =
  /`([^`\n]+)`|(https?:\/\/[^\s<>"'`]+)|\*\*(?=\S)([^*\n]*[^*\s])\*\*|__(?=\S)([^_\n]*[^_\s])__|\*(?=\S)([^*\n]*[^*\s])\*|(?<![\p{L}\p{N}_])_(?=\S)([^_\n]*[^_\s])_(?![\p{L}\p{N}_])/gu;
const WORDS =
  "and as async await break case class const continue def do elif else except false finally for from function if " +
  "import in is let new none not null or pass raise return switch this throw true try var while";
const KEYWORDS = new Set(WORDS.split(" "));
const COMMENT = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/;
const REST = /("(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\[^]|[^`\\])*`?)|(\b\d[\w.]*)|([A-Za-z_]\w*)/;
const CLASSES = ["comment", "string", "number", "keyword"];

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The text begins with http:// or https://, so no script can be in it. */
const linkTo = (text) => element("a", { href: text, rel: "noopener noreferrer nofollow", target: "_blank" }, text);

/** Code as a `<pre>`, its words in spans of the classes recado-comment, -string, -number and -keyword. */
export function highlight(code, language = "") {
  const made = element("code", {});
  const comment = /^(py|sh|ba|ya|ym|to|rb)/i.test(language) ? /#[^\n]*/ : COMMENT;
  let at = 0;
  for (const found of code.matchAll(RegExp(`(${comment.source})|${REST.source}`, "g"))) {
    const group = found.findIndex((text, number) => number && text !== undefined) - 1;
    if (group < 3 || KEYWORDS.has(found[0].toLowerCase())) {
      made.append(code.slice(at, found.index), element("span", { className: `recado-${CLASSES[group]}` }, found[0]));
      at = found.index + found[0].length;
    }
  }
  made.append(code.slice(at));
  return element("pre", { className: "recado-code" }, made);
}

function inline(text, to) {
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, url, bold, underline, star, italic] = found;
    to.append(text.slice(at, found.index));
    at = found.index + whole.length;
    if (url) {
      const end = url.replace(/[.,;:!?)\]]{1,9}$/, "");
      to.append(linkTo(end), url.slice(end.length));
    } else if (code) {
      to.append(element("code", {}, code));
    } else {
      to.append(inline(bold ?? underline ?? star ?? italic, element(bold ? "strong" : underline ? "u" : "em")));
    }
  }
  to.append(text.slice(at));
  return to;
}

function links(text, to) {
  text.split(/(https?:\/\/[^\s<>"'`]+)/).forEach((part, at) => to.append(at % 2 ? linkTo(part) : part));
  return to;
}

/** Text of `format: simple` as nodes. `anchor` makes the `href` of a quoted message. */
export function renderSimple(text, anchor = (id) => `#message-${id}`) {
  const made = document.createDocumentFragment();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const fence = /^```(\w*)\s*$/.exec(lines[at]);
    const begin = at;
    if (fence) {
      do at += 1; while (at < lines.length && !lines[at].startsWith("```"));
      made.append(highlight(lines.slice(begin + 1, at).join("\n"), fence[1]));
      at += 1;
    } else if (lines[at].startsWith("> ")) {
      while (lines[at]?.startsWith("> ")) at += 1;
      const quoted = lines.slice(begin, at).map((line) => line.slice(2)).join("\n");
      const [mark, id] = /^\[#(\d{1,15})\]\s*/.exec(quoted) ?? [""];
      const quote = element("blockquote");
      id && quote.append(element("a", { href: anchor(id), className: "recado-quote" }, `#${id}`), " ");
      made.append(inline(quoted.slice(mark.length), quote));
    } else {
      while (at < lines.length && !/^(?:```|> )/.test(lines[at])) at += 1;
      at = Math.max(at, begin + 1);
      made.append(inline(lines.slice(begin, at).join("\n"), element("div", { className: "recado-text" })));
    }
  }
  return made;
}

/** A message's text as nodes, by its kind and by `data.format`. */
export function render({ kind, text, data }, anchor) {
  if (kind === "code") {
    return highlight(text, String(data?.language ?? ""));
  }
  return data?.format === "simple" ? renderSimple(text, anchor) : links(text, element("div", { className: "recado-text" }));
}
