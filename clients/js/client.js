/**
 * The client of Recado's sites for pages, around socket.io-client 4. It hides `_batch`, acknowledges behind the handlers,
 * drops repeats, comes back after a refusal, and hands in tokens and tickets. Its types are in client.d.ts.
 */

/** A store counts its positions after so many messages. */
const COUNTED_EVERY = 500;
/** Keys of the store beside the positions of messages, which are larger: a loss not made good yet; the last sign of the server. */
const LOST = 0;
const HEARD = 1;
/** How much longer than a handler a `reload` may take. */
const RELOAD_FACTOR = 4;

const nothing = () => {};

/** The object store for positions: a page calls it while its database is upgraded. */
export function createStore(database, name = "recado") {
  database.objectStoreNames.contains(name) || database.createObjectStore(name);
}

/** Connects to a site; `url` ends with the site's name. */
export function connect(url, options) {
  return new Recado(url, options);
}

/** One connection of a page; lives until `close`. */
class Recado {
  #options;
  #handlers = new Map();
  /** Messages are handled one at a time, in their order. */
  #chain = Promise.resolve();
  #timers = new Set();
  #positions;
  #settings = {};
  #attempt = 0;
  #token;
  #ticket;
  #refusals = 0;
  #isClosed = false;
  /** When the server was last heard of: by this page, by an earlier one. */
  #heard;
  #heardBefore;
  #ping = () => {
    this.#heard = Date.now();
    this.#add(() => this.#note(HEARD, this.#heard));
  };

  constructor(url, options = {}) {
    const { store, socket = {}, io = globalThis.io, deviceId = ownDeviceId(store), keep = 20000 } = options;
    const { timeout = 30000, tries = 8, least = 2000, most = 60000 } = options;
    if (!io) throw new Error("recado: expected socket.io-client: load it first, or give it as `io`");
    this.#options = { ...options, deviceId, timeout, tries, least, most };
    this.#positions = store ? new StoredPositions(keep, deviceId, store) : new Positions(keep);
    /** The socket of socket.io-client. */
    this.socket = io(url, { ...socket, auth: (send) => this.#present(send), autoConnect: false });
    this.socket.onAny((event, ...args) => this.#receive(event, args));
    this.socket.on("connect_error", () => this.socket.active || this.#retryLater());
    this.socket.io.on("ping", this.#ping);
    this.#add(() => this.#begin());
    this.socket.connect();
  }

  /** Calls `handler` with the arguments of each such message and the message; "*" stands for other names without a `_`. */
  on(event, handler) {
    this.#handlers.set(event, [...this.#handlersOf(event), handler]);
    return this;
  }

  /** Takes a handler back. */
  off(event, handler) {
    this.#handlers.set(event, this.#handlersOf(event).filter((one) => one !== handler));
    return this;
  }

  /** Ends the connection for good. */
  close() {
    this.#isClosed = true;
    this.#timers.forEach(clearTimeout);
    this.socket.io.off("ping", this.#ping);
    this.socket.disconnect();
  }

  #handlersOf(event) {
    return this.#handlers.get(event) ?? [];
  }

  /** A ticket counts with the token that it was made for: both are presented until they are refused. */
  async #present(send) {
    const attempt = ++this.#attempt;
    try {
      if (!this.#ticket) this.#token = await this.#fetchToken();
      const { deviceId, meta } = this.#options;
      // A slow token may not reach a later transport, which has asked for one of its own.
      if (attempt === this.#attempt) send({ token: this.#token, deviceId, meta, ticket: this.#ticket, positions: 1 });
    } catch (error) {
      this.#tell(error);
      if (attempt === this.#attempt) {
        this.socket.disconnect();
        this.#retryLater();
      }
    }
  }

  async #fetchToken() {
    const { token } = this.#options;
    return typeof token === "function" ? this.#inTime(token) : token;
  }

  #retryLater() {
    // Without its old ticket the client may be let in at once; many of them spread over a second.
    const delay = this.#ticket ? Math.random() * 1000 : this.#delay(this.#refusals++);
    this.#ticket = undefined;
    this.#after(delay, () => this.socket.connect());
  }

  #delay(tries) {
    const { least, most } = this.#options;
    return Math.min(most, least * 2 ** tries) * (0.5 + Math.random() / 2);
  }

  #after(delay, task) {
    if (this.#isClosed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      task();
    }, delay);
    this.#timers.add(timer);
  }

  #receive(event, args) {
    const { id } = this.socket;
    const answer = typeof args.at(-1) === "function" && args.pop();
    // The numbers of batches begin again with each connection: an ack may not reach another one.
    const acknowledge = () => answer && this.socket.id === id && answer();
    const heard = this.#heard;
    this.#heard = Date.now();
    if (event === "_batch") {
      let left = args[0].length;
      const done = () => --left || acknowledge();
      args[0].forEach(([name, ...values]) => this.#take(name, values, true, done));
      return;
    }
    if (event === "_settings") {
      this.#settings = args[0];
      this.#refusals = 0;
      this.#ticket = args[0].resume_ticket;
      this.#add(() => this.#greet(heard));
    } else if (event === "_resume_ticket") {
      this.#ticket = args[0];
    } else if (event === "_token_expiring") {
      this.#renew(id, 0);
    } else if (event === "_resync") {
      this.#lose();
    }
    this.#take(event, args, answer, acknowledge);
  }

  /** Puts a message into the chain; `done` acknowledges it. */
  #take(event, args, isMessage, done) {
    const position = isMessage && this.#settings.positions ? args.pop() : undefined;
    const message = { event, args, position, tries: 0, done };
    this.#add(() => this.#handle(message));
  }

  #add(task) {
    this.#chain = this.#chain.then(() => this.#isClosed || task()).catch((error) => this.#tell(error));
  }

  async #handle(message) {
    const { event, args, position } = message;
    const own = this.#handlersOf(event);
    const handlers = own[0] || event[0] === "_" ? own : this.#handlersOf("*");
    const run = (transaction) =>
      Promise.all(handlers.map((handler) => handler(...args, { event, position, transaction })));
    try {
      if (handlers[0]) await this.#inTime((signal) => this.#positions.once(position, run, signal));
      message.done();
    } catch (error) {
      this.#tell(error, event, args);
      await this.#fail(message, error);
    }
  }

  /** A message that has failed comes again, behind others; in the end `failed` or `reload` stands for it. */
  async #fail(message, error) {
    const { tries, failed, reload } = this.#options;
    const { event, args } = message;
    const instead = failed ? () => failed(error, event, args) : reload;
    message.tries += 1;
    if (instead && message.tries >= tries) {
      try {
        await this.#inTime(() => instead(), RELOAD_FACTOR);
        return message.done();
      } catch (another) {
        this.#tell(another, event, args);
      }
    }
    this.#after(this.#delay(message.tries - 1), () => this.#add(() => this.#handle(message)));
  }

  /** What an earlier page has left. */
  async #begin() {
    const get = (key) => this.#inTime(() => this.#positions.get(key));
    this.#heardBefore = await get(HEARD);
    if (await get(LOST)) await this.#reload(0);
  }

  /** A device that was away for too long is forgotten without a word. */
  async #greet(heard = this.#heardBefore) {
    if (this.#settings.device_ttl && heard && this.#heard - heard > this.#settings.device_ttl * 1000) this.#lose();
    await this.#note(HEARD, this.#heard);
  }

  /** Noted at once: a page that is closed before its `reload` is over makes good for it when it is opened again. */
  #lose() {
    this.#note(LOST, 1).catch((error) => this.#tell(error));
    this.#add(() => this.#reload(0));
  }

  async #reload(tries) {
    try {
      await this.#inTime(() => this.#options.reload?.(), RELOAD_FACTOR);
      await this.#note(LOST, 0);
    } catch (error) {
      this.#tell(error);
      this.#after(this.#delay(tries), () => this.#add(() => this.#reload(tries + 1)));
    }
  }

  #note(key, value) {
    return this.#inTime(() => this.#positions.note(key, value));
  }

  /** Hands in the next token before the present one runs out. */
  async #renew(id, tries) {
    const isOver = () => this.socket.id !== id;
    if (typeof this.#options.token !== "function" || isOver()) return;
    try {
      const token = await this.#fetchToken();
      if (isOver()) return;
      // Before the answer: the server may close the connection with it.
      this.#token = token;
      await new Promise((resolve, reject) =>
        this.socket.timeout(this.#options.timeout).emit("_token", token, (late, answer) => {
          const error = late ?? answer.error;
          error ? reject(error) : resolve();
        }),
      );
    } catch (error) {
      if (isOver()) return;
      this.#tell(error);
      this.#after(this.#delay(tries), () => this.#renew(id, tries + 1));
    }
  }

  /** Runs a task that may take no longer than a handler, times `factor`; the signal tells the task that it is over. */
  async #inTime(task, factor = 1) {
    const control = new AbortController();
    let timer;
    const end = new Promise((_, reject) => {
      timer = setTimeout(() => {
        control.abort();
        reject(new Error("recado: not done in time"));
      }, this.#options.timeout * factor);
    });
    try {
      return await Promise.race([task(control.signal), end]);
    } finally {
      clearTimeout(timer);
    }
  }

  #tell(...problem) {
    try {
      (this.#options.onError ?? console.error)(...problem);
    } catch (error) {
      console.error(error);
    }
  }
}

/** The positions of handled messages, in memory. Lives as long as the page. */
class Positions {
  #keep;
  #handled = new Set();

  constructor(keep) {
    this.#keep = keep;
  }

  /** Handles a message unless it is a repeat. */
  async once(position, run) {
    if (this.#handled.has(position)) return;
    await run();
    if (position) this.#handled.add(position);
    if (this.#handled.size > this.#keep) this.#handled.delete(this.#handled.values().next().value);
  }

  async get() {}

  async note() {}
}

/** The same in IndexedDB, in the page's own transactions. */
class StoredPositions {
  #keep;
  #options;
  #count = 0;

  constructor(keep, deviceId, { name = "recado", stores = [], scope = deviceId, ...options }) {
    this.#keep = keep;
    this.#options = { ...options, name, stores, scope };
  }

  /** The position is written in the transaction of the handler: both are there, or none. */
  async once(position, run, signal) {
    const transaction = await this.#open(this.#options.stores);
    const ended = endOf(transaction);
    ended.catch(nothing);
    const abort = () => {
      try {
        transaction.abort();
      } catch {}
    };
    signal.addEventListener("abort", abort);
    try {
      signal.throwIfAborted();
      const store = this.#storeIn(transaction);
      const key = this.#key(position ?? -1);
      if (!(await result(store.getKey(key)))) {
        await run(transaction);
        // Behind the handler: where it has let the transaction end, this fails, and the message is not acknowledged.
        if (position) store.put(1, key);
        if (++this.#count % COUNTED_EVERY === 0) await this.#forget(store);
      }
    } catch (error) {
      abort();
      throw error;
    }
    await ended;
  }

  async get(key) {
    return result(this.#storeIn(await this.#open([], "readonly")).get(this.#key(key)));
  }

  async note(key, value) {
    const transaction = await this.#open([]);
    this.#storeIn(transaction).put(value, this.#key(key));
    await endOf(transaction);
  }

  /** Forgets the oldest positions. */
  async #forget(store) {
    const range = IDBKeyRange.bound(this.#key(HEARD + 1), this.#key(Infinity));
    const excess = (await result(store.count(range))) - this.#keep;
    if (excess > 0) {
      const keys = await result(store.getAllKeys(range, excess));
      store.delete(IDBKeyRange.bound(keys[0], keys.at(-1)));
    }
  }

  async #open(stores, mode = "readwrite") {
    const { database, name, durability } = this.#options;
    const opened = await (typeof database === "function" ? database() : database);
    return opened.transaction([...stores, name], mode, { durability });
  }

  #storeIn(transaction) {
    return transaction.objectStore(this.#options.name);
  }

  #key(part) {
    return [this.#options.scope, part];
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function endOf(transaction) {
  return new Promise((resolve, reject) => {
    transaction.addEventListener("complete", resolve);
    transaction.addEventListener("abort", () => reject(transaction.error ?? new Error("recado: transaction aborted")));
  });
}

/** A page with a store is one device in all its tabs; without one, each tab has messages of its own. */
function ownDeviceId(store) {
  try {
    const storage = store ? localStorage : sessionStorage;
    return (storage.recadoDevice ??= Math.random().toString(36).slice(2) + Date.now().toString(36));
  } catch {
    return "";
  }
}
