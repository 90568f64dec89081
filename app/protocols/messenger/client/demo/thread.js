/** The messages of the open conversation, with their ticks. What is on the screen is told as read. */

import { conversationOf } from "/recado/messenger.js";
import { attempt } from "./forms.js";
import { isOwnMessage, messageItem } from "./message.js";
import { nameOf } from "./names.js";

/** So many messages are shown, and so many more at the begin of the log. */
const PAGE = 50;
/** The words behind each message of one's own. */
const TICKS = { waiting: "◷ waiting", sent: "✓ sent", delivered: "✓✓ delivered", read: "✓✓ read" };
/** So near to its end a log follows what comes, and so near to its begin it shows more, in pixels. */
const NEAR = 80;

/** Lives as long as the page. */
export class Thread {
  #log;
  #list;
  #chat;
  #prefix;
  #acts;
  #to = null;
  /** Key of a message -> its item, and what it shows. */
  #items = new Map();
  #line = Promise.resolve();
  #shown = PAGE;
  /** Whether the browser keeps more messages than are shown. */
  #hasMore = false;
  /** Whether the log follows what comes: not while somebody reads further up. */
  #isAtEnd = true;
  #top = 0;

  /**
   * @param {string} prefix begins the ids of this thread's messages in the page
   * @param {{onReply, onEdit, onForward, onRead}} acts called with a message; `onRead` when some have been read
   */
  constructor(log, chat, prefix, acts) {
    this.#log = log;
    this.#list = log.querySelector("ol");
    this.#chat = chat;
    this.#prefix = prefix;
    this.#acts = {
      ...acts,
      onForward: (message, to) => this.#act(message, () => acts.onForward(message, to)),
      onDelete: (message) => this.#act(message, () => this.#delete(message)),
    };
    for (const event of ["messages", "receipts", "outgoing", "failed", "directory"]) {
      chat.on(event, () => this.refresh());
    }
    chat.on("outgoing", () => (this.#isAtEnd = true));
    document.addEventListener("visibilitychange", () => this.refresh());
    log.addEventListener("scroll", () => this.#scrolled());
    // Also when a picture has been loaded, or the window has another size.
    const sizes = new ResizeObserver(() => this.#follow());
    sizes.observe(log);
    sizes.observe(this.#list);
  }

  /** Shows a conversation, and the message with this id in it. */
  async show(to, id) {
    const before = document.activeElement;
    this.clear();
    this.#to = to;
    this.#isAtEnd = id === undefined;
    await this.refresh();
    while (id !== undefined && to === this.#to && this.#hasMore && !this.#items.has(String(id))) {
      this.#shown *= 2;
      await this.refresh();
    }
    // A person may have begun to write meanwhile.
    if (document.activeElement === before || document.activeElement === document.body) {
      this.#items.get(String(id))?.item.focus();
    }
  }

  /** Shows nothing. */
  clear() {
    this.#to = null;
    this.#shown = PAGE;
    this.#items.clear();
    this.#list.replaceChildren();
  }

  #act(message, work) {
    return attempt(this.#items.get(String(message.id)).item, work);
  }

  async #delete({ id }) {
    await this.#chat.ask("delete", { id });
    // The change goes to the other devices alone.
    await this.#chat.sync();
    this.#log.focus();
  }

  #scrolled() {
    this.#isAtEnd ||= this.#isNearEnd();
    this.#leaveEnd();
    if (this.#log.scrollTop < NEAR && this.#hasMore) {
      this.#hasMore = false;
      this.#shown += PAGE;
      this.refresh();
    }
  }

  /** Shows what has come, and tells it as read if it can be seen. */
  refresh() {
    this.#line = this.#line.then(() => this.#showAll()).catch((error) => console.error(error));
    return this.#line;
  }

  async #showAll() {
    const to = this.#to;
    if (!to || !this.#chat.user) {
      return;
    }
    const kept = await this.#chat.messages(to, { limit: this.#shown + 1 });
    const waiting = (await this.#chat.outgoing()).filter((one) => conversationOf(one.to) === conversationOf(to));
    if (to !== this.#to) {
      return;
    }
    this.#hasMore = kept.length > this.#shown;
    const all = [...kept.slice(this.#hasMore ? 1 : 0), ...waiting];
    const keys = new Set(all.map((message) => String(message.id)));
    // The event of a scroll comes with the next frame only, and this may be before.
    this.#leaveEnd();
    const below = this.#log.scrollHeight - this.#log.scrollTop;
    for (const [key, { item }] of this.#items) {
      if (!keys.has(key)) {
        item.remove();
        this.#items.delete(key);
      }
    }
    const first = this.#list.firstElementChild;
    all.forEach((message, place) => this.#showOne(message, place));
    if (first && first !== this.#list.firstElementChild) {
      // What is read stays where it is when older messages come above it.
      this.#log.scrollTop = this.#log.scrollHeight - below;
    }
    this.#follow();
    await this.#tellRead(kept);
  }

  #isNearEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR;
  }

  /** Follows no longer when somebody has scrolled up. The log may also have grown: only a way up is that of a reader. */
  #leaveEnd() {
    if (this.#log.scrollTop < this.#top && !this.#isNearEnd()) {
      this.#isAtEnd = false;
    }
    this.#top = this.#log.scrollTop;
  }

  #follow() {
    if (this.#isAtEnd) {
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#top = this.#log.scrollTop;
    }
  }

  async #tellRead(kept) {
    const fresh = kept.filter((message) => message.unread);
    if (fresh.length && !document.hidden && this.#log.checkVisibility()) {
      await this.#chat.read(fresh.map((message) => message.id));
      this.#acts.onRead();
    }
  }

  #showOne(message, place) {
    const key = String(message.id);
    const isOwn = isOwnMessage(this.#chat, message);
    const version = `${message.changed_at ?? 0} ${isOwn || nameOf(this.#chat, message.from)}`;
    let known = this.#items.get(key);
    if (known?.version !== version) {
      const item = messageItem(this.#chat, message, this.#prefix, this.#acts);
      known?.item.replaceWith(item);
      known = { item, version };
      this.#items.set(key, known);
    }
    if (this.#list.children[place] !== known.item) {
      this.#list.insertBefore(known.item, this.#list.children[place] ?? null);
    }
    if (isOwn) {
      const state = this.#stateOf(message);
      const ticks = known.item.querySelector(".ticks");
      ticks.dataset.state = state;
      if (ticks.textContent !== TICKS[state]) {
        ticks.textContent = TICKS[state];
      }
    }
  }

  /** The best that is known of any device of another person. */
  #stateOf(message) {
    if (message.receipts === undefined) {
      return "waiting";
    }
    const states = message.receipts.filter((one) => one.user !== this.#chat.user.id).map((one) => one.state);
    return ["read", "delivered"].find((state) => states.includes(state)) ?? "sent";
  }
}
