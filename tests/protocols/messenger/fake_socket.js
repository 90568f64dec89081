// A socket of socket.io-client without a network, and the server behind it: both stand in the page under test.
// `fake.answers[event]` answers an event; one that is not there is never answered. `fake.asked` lists all of them.
"use strict";

class FakeSocket {
  constructor(url, options) {
    Object.assign(this, { url, options, connected: false, active: false, handlers: {}, any: () => {} });
  }

  on(event, handler) {
    (this.handlers[event] ??= []).push(handler);
  }

  once(event, handler) {
    this.on(event, (...args) => handler(...args));
  }

  onAny(handler) {
    this.any = handler;
  }

  connect() {
    this.active = true;
    queueMicrotask(() => fake.arrive(this));
  }

  disconnect() {
    this.drop("io client disconnect");
    this.active = false;
  }

  emit(event, data, acknowledge) {
    fake.asked.push([event, structuredClone(data)]);
    const answer = fake.answers[event]?.(data);
    if (answer) {
      queueMicrotask(() => acknowledge(answer));
    }
  }

  /** Tells the page, as the library does. */
  tell(event, ...args) {
    (this.handlers[event] ?? []).forEach((handler) => handler(...args));
  }

  /** Brings an event of the server; resolves when the page has acknowledged it. */
  bring(event, ...args) {
    return new Promise((resolve) => this.any(event, ...args, () => resolve("acknowledged")));
  }

  /** Loses the connection. */
  drop(reason) {
    if (this.connected) {
      this.connected = false;
      this.tell("disconnect", reason);
    }
  }
}

const fake = {
  asked: [],
  answers: {},
  sockets: [],
  user: { id: 7, login: "anna", name: "Anna" },
  io(url, options) {
    const socket = new FakeSocket(url, options);
    fake.sockets.push(socket);
    socket.connect();
    return socket;
  },
  async arrive(socket) {
    socket.auth = await new Promise(socket.options.auth);
    socket.connected = true;
    socket.tell("connect");
    if (socket.auth.session) {
      socket.any("_settings", { session: socket.auth.session, user: fake.user, limits: {} });
    }
  },
  /** The events of one name that came, oldest first. */
  of: (event) => fake.asked.filter(([name]) => name === event).map(([, data]) => data),
  /** A messenger whose browser keeps a session, and which is connected and has synchronised. */
  async messenger(storage) {
    const { Messenger } = await import("/recado/messenger.js");
    const url = location.origin;
    const options = { site: "team", io: fake.io, storage };
    const first = new Messenger(options);
    await first.open();
    await fake.keep(`recado ${url} team ${storage}`, "session", "token");
    fake.answers.sync ??= () => ({ ok: true, messages: [], receipts: [], cursor: "1", more: false });
    const chat = new Messenger(options);
    Object.assign(chat, { storage, told: [] });
    for (const event of ["messages", "receipts", "sent", "failed", "error", "state", "directory", "presence", "event"]) {
      chat.on(event, (...args) => chat.told.push([event, ...args]));
    }
    const isSynced = new Promise((resolve) => chat.on("synced", resolve));
    await chat.open();
    await isSynced;
    chat.socket = fake.sockets.at(-1);
    return chat;
  },
  /** Writes a value into the browser's database. */
  keep: (name, key, value) =>
    new Promise((resolve) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => {
        const transaction = request.result.transaction("meta", "readwrite");
        transaction.objectStore("meta").put(value, key);
        transaction.oncomplete = () => resolve(request.result.close());
      };
    }),
};
globalThis.fake = fake;
