/** The messages of the open conversation, with their ticks. What is on the screen is told as read. */

import { conversationOf, render } from "/recado/messenger.js";
import { element } from "./elements.js";

const SHOWN = 200;
/** The words behind each message of one's own. */
const TICKS = { waiting: "◷ waiting", sent: "✓ sent", delivered: "✓✓ delivered", read: "✓✓ read" };
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
/** So near to its end a log follows what comes, in pixels. */
const NEAR_END = 80;

/** Lives as long as the page. */
export class Thread {
  #log;
  #list;
  #chat;
  #prefix;
  #onReply;
  #to = null;
  /** Key of a message -> its item, and what it shows. */
  #items = new Map();
  #line = Promise.resolve();
  /** Whether the log follows what comes: not while somebody reads further up. */
  #isAtEnd = true;

  /** @param {string} prefix begins the ids of this thread's messages in the page */
  constructor(log, chat, prefix, onReply) {
    this.#log = log;
    this.#list = log.querySelector("ol");
    this.#chat = chat;
    this.#prefix = prefix;
    this.#onReply = onReply;
    for (const event of ["messages", "receipts", "outgoing", "failed", "directory"]) {
      chat.on(event, () => this.#refresh());
    }
    document.addEventListener("visibilitychange", () => this.#refresh());
    log.addEventListener("scroll", () => {
      this.#isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    });
    // Also when a picture has been loaded, or the window has another size.
    const sizes = new ResizeObserver(() => this.#follow());
    sizes.observe(log);
    sizes.observe(this.#list);
  }

  /** Shows a conversation, and the message with this id in it. */
  async show(to, id) {
    this.clear();
    this.#to = to;
    this.#isAtEnd = true;
    await this.#refresh();
    this.#items.get(String(id))?.item.focus();
  }

  /** Shows nothing. */
  clear() {
    this.#to = null;
    this.#items.clear();
    this.#list.replaceChildren();
  }

  #refresh() {
    this.#line = this.#line.then(() => this.#showAll()).catch((error) => console.error(error));
    return this.#line;
  }

  async #showAll() {
    const to = this.#to;
    if (!to || !this.#chat.user) {
      return;
    }
    const kept = await this.#chat.messages(to, { limit: SHOWN });
    const waiting = (await this.#chat.outgoing()).filter((one) => conversationOf(one.to) === conversationOf(to));
    if (to !== this.#to) {
      return;
    }
    const all = [...kept, ...waiting];
    const keys = new Set(all.map((message) => String(message.id)));
    for (const [key, { item }] of this.#items) {
      if (!keys.has(key)) {
        item.remove();
        this.#items.delete(key);
      }
    }
    all.forEach((message, place) => this.#showOne(message, place));
    this.#follow();
    await this.#tellRead(kept);
  }

  #follow() {
    if (this.#isAtEnd) {
      this.#log.scrollTop = this.#log.scrollHeight;
    }
  }

  async #tellRead(kept) {
    const fresh = kept.filter((message) => !message.seen && message.from !== this.#chat.user.id);
    if (fresh.length && !document.hidden) {
      await this.#chat.read(fresh.map((message) => message.id));
    }
  }

  #showOne(message, place) {
    const key = String(message.id);
    const version = `${message.changed_at ?? 0} ${this.#nameOf(message)}`;
    let known = this.#items.get(key);
    if (known?.version !== version) {
      const item = this.#build(message);
      known?.item.replaceWith(item);
      known = { item, version };
      this.#items.set(key, known);
    }
    if (this.#list.children[place] !== known.item) {
      this.#list.insertBefore(known.item, this.#list.children[place] ?? null);
    }
    if (this.#isOwn(message)) {
      const state = this.#stateOf(message);
      const ticks = known.item.querySelector(".ticks");
      ticks.dataset.state = state;
      if (ticks.textContent !== TICKS[state]) {
        ticks.textContent = TICKS[state];
      }
    }
  }

  #isOwn(message) {
    return message.from === undefined || message.from === this.#chat.user.id;
  }

  #nameOf(message) {
    return this.#isOwn(message) ? "You" : (this.#chat.users.get(message.from)?.name ?? `user ${message.from}`);
  }

  /** The best that is known of any device of another person. */
  #stateOf(message) {
    if (message.receipts === undefined) {
      return "waiting";
    }
    const states = message.receipts.filter((one) => one.user !== this.#chat.user.id).map((one) => one.state);
    return ["read", "delivered"].find((state) => states.includes(state)) ?? "sent";
  }

  #build(message) {
    const isOwn = this.#isOwn(message);
    const name = this.#nameOf(message);
    const at = new Date(message.at);
    const head = element(
      "div",
      { className: "message-head" },
      element("strong", {}, name),
      element("time", { dateTime: at.toISOString() }, at.toTimeString().slice(0, 5)),
    );
    if (message.changed_at) {
      head.append(element("span", {}, "changed"));
    }
    if (isOwn) {
      head.append(element("span", { className: "ticks" }));
    }
    if (typeof message.id === "number") {
      const label = `Reply to ${name}: ${message.text.slice(0, 40)}`;
      head.append(element("button", { type: "button", className: "quiet", ariaLabel: label, onclick: () => this.#onReply(message) }, "Reply"));
    }
    const item = element("li", { className: isOwn ? "message own" : "message", id: `${this.#prefix}-${message.id}`, tabIndex: -1 }, head);
    item.append(message.file ? this.#file(message.file) : render(message, (id) => `#${this.#prefix}-${id}`));
    return item;
  }

  #file(file) {
    const label = `${file.name || "a file"}, ${file.size} bytes`;
    if (PICTURES.includes(file.type)) {
      const picture = element("img", { alt: file.name || "a picture", title: label });
      this.#chat.fileLink(file.id).then(
        (link) => (picture.src = link),
        () => picture.replaceWith(label),
      );
      return picture;
    }
    const save = async () => element("a", { href: await this.#chat.fileLink(file.id), download: file.name }).click();
    return element("button", { type: "button", className: "quiet", onclick: save }, `Save ${label}`);
  }
}
