/** One person's side of the page: the login, the conversations, and the one that is open. */

import { Messenger, MessengerError, conversationOf } from "/recado/messenger.js";
import { Conversations } from "./conversations.js";
import { Composer } from "./composer.js";
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

/** Lives as long as the page. */
export class Person {
  #chat;
  #name;
  #thread;
  #conversations;
  #composer;
  #typingEnds;
  #to = null;

  /** @param {{login: string, name: string, password: string}} person the first values of the login */
  constructor({ login, name, password }) {
    this.#name = name;
    /** The side; the caller places it. */
    this.element = document.querySelector("#person-template").content.firstElementChild.cloneNode(true);
    this.#chat = new Messenger({ site: SITE, storage: login, app: { name: "Recado demo", version: "1" } });
    this.#find("h2").textContent = name;
    this.#find("h2").id = `title-${login}`;
    this.element.setAttribute("aria-labelledby", `title-${login}`);
    this.#find("nav").setAttribute("aria-label", `Conversations of ${name}`);
    this.#find(".search").setAttribute("aria-label", `Messages of ${name}`);
    this.#find(".search input").setAttribute("aria-label", `Search as ${name}`);
    this.#find(".found").setAttribute("aria-label", `Found by ${name}`);
    this.#find(".composer textarea").setAttribute("aria-label", `Message of ${name}`);
    const form = this.#find(".login");
    form.elements.login.value = login;
    form.elements.password.value = password;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#logIn(form.elements.login.value, form.elements.password.value);
    });
    this.#composer = new Composer(this.#find(".composer"), this.#chat);
    this.#thread = new Thread(this.#find(".log"), this.#chat, login, (message) => this.#composer.quote(message));
    this.#conversations = new Conversations(this.#find(".conversations"), this.#chat, (to) => this.#show(to));
    new Search(this.#find(".search"), this.#find(".found"), this.#chat, (to, id) => this.#show(to, id));
    this.#find(".offline").addEventListener("click", () => this.#switch());
    this.#find(".logout").addEventListener("click", () => this.#logOut());
    this.#chat.on("state", (state) => this.#showState(state));
    this.#chat.on("typing", (typing) => this.#showTyping(typing));
    this.#chat.on("messages", () => this.#showTyping(null));
    this.#chat.on("directory", () => this.#showFirst());
    this.#showState(this.#chat.state);
  }

  /** Takes up the session that this browser keeps, if there is one. */
  async start() {
    const user = await this.#chat.open();
    this.#showState(this.#chat.state);
    if (user) {
      await this.#showFirst();
    }
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  async #logIn(login, password) {
    const button = this.#find(".login [type=submit]");
    const problem = this.#find(".login .problem");
    button.disabled = true;
    problem.textContent = "";
    try {
      await this.#chat.login(login, password);
      this.#find(".composer textarea").focus();
    } catch (error) {
      problem.textContent = wordsOf(error);
    }
    button.disabled = false;
  }

  async #logOut() {
    // Here everything is forgotten in any case.
    await this.#chat.logout().catch((error) => console.warn(error));
    this.#to = null;
    this.#thread.clear();
    this.#conversations.refresh();
    this.#showState(this.#chat.state);
    this.#find(".login input").focus();
  }

  #switch() {
    if (this.#chat.state === "off") {
      this.#chat.open();
    } else {
      this.#chat.close();
    }
  }

  #showState(state) {
    const pill = this.#find(".state");
    const isIn = Boolean(this.#chat.user) && state !== "login";
    pill.dataset.state = state;
    pill.textContent = isIn || state !== "off" ? STATES[state] : STATES.login;
    this.#find(".login").hidden = isIn;
    this.#find(".chat").hidden = !isIn;
    this.#find(".logout").hidden = state !== "online";
    const button = this.#find(".offline");
    button.hidden = !isIn;
    button.textContent = state === "off" ? "Come back" : "Go offline";
    this.#find(".attach").hidden = !this.#chat.limits.files;
    this.#conversations.refresh();
  }

  /** Opens the first room, or the first person, when nothing is open. */
  async #showFirst() {
    if (this.#to && (this.#to.user ? this.#chat.users : this.#chat.rooms).has(this.#to.user ?? this.#to.room)) {
      return;
    }
    const first = this.#conversations.first();
    if (first) {
      await this.#show(first);
    }
  }

  async #show(to, id) {
    this.#to = to;
    const title = this.#conversations.titleOf(to);
    this.#find(".log").setAttribute("aria-label", `Messages of ${this.#name} with ${title}`);
    this.#find(".typing").textContent = "";
    this.#composer.to = to;
    this.#conversations.open(to);
    await this.#thread.show(to, id);
  }

  /** Shows for a while who is typing in the open conversation; null: nobody any more. */
  #showTyping(typing) {
    const line = this.#find(".typing");
    if (typing && !this.#isOpen(typing.to.room == null ? { user: typing.user } : typing.to)) {
      return;
    }
    clearTimeout(this.#typingEnds);
    line.textContent = typing ? `${this.#chat.users.get(typing.user)?.name ?? "Somebody"} is typing…` : "";
    this.#typingEnds = setTimeout(() => (line.textContent = ""), TYPING_MS);
  }

  #isOpen(to) {
    return this.#to !== null && conversationOf(to) === conversationOf(this.#to);
  }
}

/** An error in a visitor's words. */
function wordsOf(error) {
  if (!(error instanceof MessengerError)) {
    return String(error);
  }
  return error.code === "blocked" ? `Blocked: try again in ${error.retryAfter} s.` : error.message;
}
