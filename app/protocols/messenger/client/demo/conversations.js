/** The list of conversations of one person: rooms, then people with their presence, each with what is unread. */

import { conversationOf } from "/recado/messenger.js";
import { element } from "./elements.js";

/** Lives as long as the page. */
export class Conversations {
  #list;
  #chat;
  #onOpen;
  /** Conversation -> its button. */
  #buttons = new Map();
  /** Conversation -> the ids of its messages that are unread. */
  #unread = new Map();
  #opened = "";

  constructor(list, chat, onOpen) {
    this.#list = list;
    this.#chat = chat;
    this.#onOpen = onOpen;
    chat.on("directory", () => this.#count());
    chat.on("presence", () => this.refresh());
    chat.on("messages", (messages) => this.#add(messages));
  }

  /** The conversation that is shown first; null: there is none. */
  first() {
    return this.#all()[0] ?? null;
  }

  titleOf(to) {
    const { rooms, users } = this.#chat;
    return to.room == null ? (users.get(to.user)?.name ?? `user ${to.user}`) : (rooms.get(to.room)?.name ?? "a room");
  }

  /** This conversation is on the screen now: what comes there is read. */
  open(to) {
    this.#opened = conversationOf(to);
    this.#unread.delete(this.#opened);
    this.refresh();
  }

  refresh() {
    const all = this.#all();
    const keys = all.map(conversationOf);
    for (const [key, { item }] of this.#buttons) {
      if (!keys.includes(key)) {
        item.remove();
        this.#buttons.delete(key);
      }
    }
    all.forEach((to, place) => this.#showOne(to, place));
  }

  #all() {
    const { rooms, users, user } = this.#chat;
    if (!user) {
      return [];
    }
    const others = [...users.values()].filter((one) => one.id !== user.id && !one.disabled);
    return [...[...rooms.keys()].map((room) => ({ room })), ...others.map((one) => ({ user: one.id }))];
  }

  #showOne(to, place) {
    const key = conversationOf(to);
    let known = this.#buttons.get(key);
    if (!known) {
      const button = element("button", { type: "button", onclick: () => this.#onOpen(to) });
      known = { button, item: element("li", {}, button) };
      this.#buttons.set(key, known);
    }
    if (this.#list.children[place] !== known.item) {
      this.#list.insertBefore(known.item, this.#list.children[place] ?? null);
    }
    const words = [this.titleOf(to)];
    if (to.room == null) {
      words.push(this.#chat.online.has(to.user) ? "online" : "away");
    }
    const count = this.#unread.get(key)?.size ?? 0;
    known.button.replaceChildren(
      element("span", { className: "title" }, words[0]),
      element("span", { className: `presence ${words[1] ?? "room"}` }, words[1] ?? "room"),
      ...(count ? [element("span", { className: "unread" }, `${count} unread`)] : []),
    );
    known.button.setAttribute("aria-current", String(key === this.#opened));
  }

  /** Counts what this browser has kept. */
  async #count() {
    for (const to of this.#all()) {
      if (!this.#unread.has(conversationOf(to))) {
        this.#add((await this.#chat.messages(to)).filter((one) => !one.seen));
      }
    }
    this.refresh();
  }

  #add(messages) {
    for (const { id, from, conversation, seen, deleted } of messages) {
      const unread = this.#unread.get(conversation) ?? new Set();
      this.#unread.set(conversation, unread);
      const isNew = !seen && !deleted && from !== this.#chat.user?.id && conversation !== this.#opened;
      unread[isNew ? "add" : "delete"](id);
    }
    this.refresh();
  }
}
