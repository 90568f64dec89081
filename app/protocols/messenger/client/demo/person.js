/** One person's side of the page: the way in, the conversations, the one that is open, and the panels in its place. */

import { Messenger, conversationOf } from "/recado/messenger.js";
import { Account } from "./account.js";
import { Composer } from "./composer.js";
import { Conversations } from "./conversations.js";
import { Details } from "./details.js";
import { Entry } from "./entry.js";
import { nameOf, titleOf } from "./names.js";
import { Search } from "./search.js";
import { Thread } from "./thread.js";

const SITE = "team";
const STATES = {
  off: "offline",
  connecting: "connecting…",
  login: "not logged in",
  password: "needs another password",
  online: "online",
};
const TYPING_MS = 4_000;
/** The parts of a side of which one is shown. */
const VIEWS = ["talk", "found", "account", "details"];

/** Lives as long as the page. */
export class Person {
  #chat;
  #given;
  #name;
  #entry;
  #account;
  #details;
  #thread;
  #conversations;
  #composer;
  #typingEnds;
  /** The button that has opened a panel. */
  #opener = null;
  #to = null;

  /** @param {{login: string, name: string, password: string}} person the first values of the login */
  constructor({ login, name, password }) {
    this.#given = name;
    /** The side; the caller places it. */
    this.element = document.querySelector("#person-template").content.firstElementChild.cloneNode(true);
    const chat = (this.#chat = new Messenger({ site: SITE, storage: login, app: { name: "Recado demo", version: "1" } }));
    this.#find("h2").id = `title-${login}`;
    this.element.setAttribute("aria-labelledby", `title-${login}`);
    this.#entry = new Entry(this.#find(".entry"), chat, { login, password });
    this.#composer = new Composer(this.#find(".composer"), chat);
    this.#thread = new Thread(this.#find(".log"), chat, login, {
      onReply: (message) => this.#composer.quote(message),
      onEdit: (message) => this.#composer.edit(message),
      onForward: (message, to) => this.#forward(message, to),
      onRead: () => this.#conversations.count(),
    });
    this.#conversations = new Conversations(this.#find(".conversations"), chat, (to) => this.#show(to));
    this.#account = new Account(this.#find(".account"), chat, () => this.#logOut({ all: true }));
    this.#details = new Details(this.#find(".details"), chat, (to) => this.#show(to));
    const found = () => this.#view("found");
    new Search(this.#find(".search"), this.#find(".found"), chat, found, (to, id) => this.#show(to, id));
    this.#listen();
    this.#showState(chat.state);
  }

  /** Takes up the session that this browser keeps, if there is one. */
  async start() {
    const user = await this.#chat.open();
    this.#showState(this.#chat.state);
    if (user) {
      await this.#conversations.count();
      await this.#showFirst();
    }
  }

  #listen() {
    const chat = this.#chat;
    this.#press(".offline", () => (chat.state === "off" ? chat.open() : chat.close()));
    this.#press(".logout", () => this.#logOut());
    this.#press(".open-account", () => {
      this.#account.show();
      this.#view("account");
    });
    this.#press(".open-details", () => this.#to && this.#showDetails(this.#to));
    this.#press(".new-room", () => this.#showDetails(null));
    this.element.querySelectorAll(".close").forEach((one) => one.addEventListener("click", () => this.#close()));
    chat.on("state", (state) => this.#showState(state));
    chat.on("typing", (typing) => this.#showTyping(typing));
    chat.on("messages", (messages) => messages.some((one) => one.from !== chat.user?.id) && this.#showTyping(null));
    chat.on("directory", () => this.#showChanged());
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  #press(selector, work) {
    this.#find(selector).addEventListener("click", work);
  }

  /** Names everything after the user, also when it has changed its name. */
  #showName() {
    const { user } = this.#chat;
    const name = (this.#name = user ? this.#chat.users.get(user.id)?.name || user.name || user.login : this.#given);
    this.#find("h2").textContent = name;
    const labels = {
      nav: `Conversations of ${name}`,
      ".search": `Messages of ${name}`,
      ".search input": `Search as ${name}`,
      ".found": `Found by ${name}`,
      ".account": `Account of ${name}`,
      ".composer textarea": `Message of ${name}`,
    };
    Object.entries(labels).forEach(([selector, label]) => this.#find(selector).setAttribute("aria-label", label));
  }

  /** Shows one of the views; the keyboard goes to its begin, or to the field for messages. */
  #view(name) {
    if (name !== "talk") {
      this.#opener = document.activeElement;
    }
    VIEWS.forEach((one) => (this.#find(`.${one}`).hidden = one !== name));
    this.#find(".open-account").ariaExpanded = String(name === "account");
    this.#conversations.open(name === "talk" ? this.#to : null);
    if (name === "talk") {
      this.#thread.refresh();
    } else {
      this.#find(`.${name} h3`).focus();
    }
  }

  /** Leaves a panel; the keyboard goes back to where it came from. */
  #close() {
    this.#view("talk");
    (this.#opener?.checkVisibility() ? this.#opener : this.#find(".log")).focus();
  }

  async #logOut(options) {
    // Here everything is forgotten in any case.
    await this.#chat.logout(options).catch((error) => console.warn(error));
    this.#showState(this.#chat.state);
    this.#entry.focus();
  }

  /** Leaves nothing of this user on the screen. */
  #clear() {
    this.#to = null;
    this.#thread.clear();
    this.#composer.open(null);
    this.#conversations.count();
    this.#view("talk");
  }

  #showState(state) {
    const pill = this.#find(".state");
    const isIn = Boolean(this.#chat.user) && state !== "login" && state !== "password";
    const wasIn = !this.#find(".chat").hidden;
    pill.dataset.state = state;
    pill.textContent = isIn || state !== "off" ? STATES[state] : STATES.login;
    this.#showName();
    this.#entry.show(state, isIn);
    this.#find(".chat").hidden = !isIn;
    this.#find(".open-account").hidden = !isIn;
    this.#find(".logout").hidden = state !== "online" && state !== "password";
    const button = this.#find(".offline");
    button.hidden = !isIn;
    button.textContent = state === "off" ? "Come back" : "Go offline";
    this.#find(".attach").hidden = !this.#chat.limits.files;
    if (isIn && !wasIn) {
      this.#find(".composer textarea").focus();
      this.#showFirst();
    } else if (wasIn && !isIn) {
      this.#clear();
    }
    this.#conversations.refresh();
  }

  #showChanged() {
    this.#showName();
    const isGone = this.#to?.room != null && !this.#chat.rooms.has(this.#to.room);
    if (isGone) {
      this.#clear();
    }
    if (!this.#to) {
      this.#showFirst();
    } else {
      this.#showTitle();
    }
  }

  /** Opens the first room, or the first person, when nothing is open; behind a panel that is. */
  async #showFirst() {
    const first = this.#conversations.first();
    if (!this.#to && first) {
      await this.#open(first);
    }
  }

  #showTitle() {
    const title = titleOf(this.#chat, this.#to);
    const room = this.#chat.rooms.get(this.#to.room);
    this.#find(".talk h3").textContent = title;
    this.#find(".open-details").setAttribute("aria-label", `Details of ${title}`);
    this.#find(".log").setAttribute("aria-label", `Messages of ${this.#name} with ${title}`);
    this.#find(".about").textContent = room?.archived ? "This room is archived and takes no messages." : (room?.description ?? "");
    this.#find(".composer").hidden = Boolean(room?.archived);
  }

  async #show(to, id) {
    this.#view("talk");
    await this.#open(to, id);
  }

  async #open(to, id) {
    this.#to = to;
    this.#showTitle();
    this.#showTyping(null);
    this.#composer.open(to);
    this.#conversations.open(this.#find(".talk").hidden ? null : to);
    await this.#thread.show(to, id);
    await this.#conversations.count();
  }

  #showDetails(to) {
    this.#details.show(to);
    this.#view("details");
  }

  async #forward({ id, kind, text, data, file }, to) {
    await this.#chat.send(to, text, { kind, forward_of: id, ...(data != null && { data }), ...(file && { file }) });
    await this.#show(to);
  }

  /** Shows for a while who is typing in the open conversation; null: nobody any more. */
  #showTyping(typing) {
    const line = this.#find(".typing");
    if (typing && !this.#isOpen(typing.to.room == null ? { user: typing.user } : typing.to)) {
      return;
    }
    clearTimeout(this.#typingEnds);
    line.textContent = typing ? `${nameOf(this.#chat, typing.user)} is typing…` : "";
    this.#typingEnds = setTimeout(() => (line.textContent = ""), TYPING_MS);
  }

  #isOpen(to) {
    return this.#to !== null && conversationOf(to) === conversationOf(this.#to);
  }
}
