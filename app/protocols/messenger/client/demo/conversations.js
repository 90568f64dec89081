/** The list of conversations of one person: rooms, then people with their presence, each with what is unread. */

import { conversationOf } from "/recado/messenger.js";
import { element } from "./elements.js";
import { conversationsOf, titleOf } from "./names.js";

/** Lives as long as the page. */
export class Conversations {
  #list;
  #chat;
  #onOpen;
  /** Conversation -> its button. */
  #buttons = new Map();
  /** Conversation -> how many of its messages are unread. */
  #unread = new Map();
  #opened = "";
  #counting = Promise.resolve();

  constructor(list, chat, onOpen) {
    this.#list = list;
    this.#chat = chat;
    this.#onOpen = onOpen;
    chat.on("presence", () => this.refresh());
    for (const event of ["directory", "messages", "receipts"]) {
      chat.on(event, () => this.count());
    }
  }

  /** The conversation that is shown first; null: there is none. */
  first() {
    return conversationsOf(this.#chat)[0] ?? null;
  }

  /** This conversation is on the screen now: what comes there is read. */
  open(to) {
    this.#opened = to ? conversationOf(to) : "";
    this.refresh();
  }

  /** Counts what is unread, and shows it. */
  count() {
    this.#counting = this.#counting
      .then(async () => {
        this.#unread = this.#chat.user ? await this.#chat.unread() : new Map();
        this.refresh();
      })
      .catch((error) => console.error(error));
    return this.#counting;
  }

  refresh() {
    const all = conversationsOf(this.#chat);
    const keys = all.map(conversationOf);
    for (const [key, { item }] of this.#buttons) {
      if (!keys.includes(key)) {
        item.remove();
        this.#buttons.delete(key);
      }
    }
    all.forEach((to, place) => this.#showOne(to, place));
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
    const count = (!document.hidden && key === this.#opened ? 0 : this.#unread.get(key)) ?? 0;
    const { muted, blocked } = this.#chat.contacts.get(to.user) ?? {};
    const state = this.#stateOf(to);
    const words = [blocked && "blocked", muted && "muted"].filter(Boolean).join(", ");
    known.button.replaceChildren(
      element("span", { className: "title" }, titleOf(this.#chat, to)),
      element("span", { className: `presence ${state}` }, state),
      ...(words ? [element("span", { className: "presence" }, words)] : []),
      ...(count ? [element("span", { className: muted ? "unread muted" : "unread" }, `${count} unread`)] : []),
    );
    known.button.setAttribute("aria-current", String(key === this.#opened));
  }

  #stateOf(to) {
    if (to.room == null) {
      return this.#chat.online.has(to.user) ? "online" : "away";
    }
    return this.#chat.rooms.get(to.room)?.archived ? "archived" : "room";
  }
}
