/** The search in all conversations of one person. */

import { element } from "./elements.js";
import { nameOf, titleOf, toOf, wordsOf } from "./names.js";

/** Lives as long as the page. */
export class Search {
  #panel;
  #chat;
  #onShow;
  #onOpen;

  /**
   * @param {function(): void} onShow shows the panel
   * @param {function(object, number): void} onOpen opens a conversation at a message
   */
  constructor(form, panel, chat, onShow, onOpen) {
    this.#panel = panel;
    this.#chat = chat;
    this.#onShow = onShow;
    this.#onOpen = onOpen;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search(form.elements.words.value);
    });
  }

  async #search(words) {
    const title = this.#panel.querySelector("h3");
    const list = this.#panel.querySelector("ul");
    list.replaceChildren();
    title.textContent = "Searching…";
    this.#onShow();
    try {
      const { messages, more } = await this.#chat.search(words);
      title.textContent = `${more ? "More than " : ""}${messages.length} found`;
      list.append(...messages.map((message) => this.#item(message)));
    } catch (error) {
      title.textContent = wordsOf(error);
    }
  }

  #item(message) {
    const to = toOf(this.#chat, message);
    const isOwn = message.from === this.#chat.user.id;
    const text = `${isOwn ? "You" : nameOf(this.#chat, message.from)}: ${message.text}`;
    const place = isOwn || to.room != null ? ` · ${titleOf(this.#chat, to)}` : "";
    const hint = element("span", { className: "hint" }, `${new Date(message.at).toLocaleDateString()}${place}`);
    const open = () => this.#onOpen(to, message.id);
    return element("li", {}, element("button", { type: "button", onclick: open }, text), hint);
  }
}
