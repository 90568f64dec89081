/** The search in all conversations of one person. */

import { element } from "./elements.js";

/** Lives as long as the page. */
export class Search {
  #found;
  #chat;
  #onOpen;

  constructor(form, found, chat, onOpen) {
    this.#found = found;
    this.#chat = chat;
    this.#onOpen = onOpen;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search(form.elements.words.value);
    });
    found.querySelector(".close").addEventListener("click", () => (found.hidden = true));
  }

  async #search(words) {
    const title = this.#found.querySelector("h3");
    const list = this.#found.querySelector("ul");
    list.replaceChildren();
    this.#found.hidden = false;
    try {
      const { messages, more } = await this.#chat.search(words);
      title.textContent = `${more ? "More than " : ""}${messages.length} found`;
      list.append(...messages.map((message) => this.#item(message)));
    } catch (error) {
      title.textContent = error.message;
    }
  }

  #item(message) {
    const me = this.#chat.user.id;
    const other = message.from === me ? message.to.user : message.from;
    const to = message.to.room == null ? { user: other } : { room: message.to.room };
    const name = message.from === me ? "You" : (this.#chat.users.get(message.from)?.name ?? message.from);
    const open = () => {
      this.#found.hidden = true;
      this.#onOpen(to, message.id);
    };
    return element("li", {}, element("button", { type: "button", onclick: open }, `${name}: ${message.text}`));
  }
}
