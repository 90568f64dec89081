/** The list of one device's events: messages with their receipts, and changes of the connection. */

import { element } from "./elements.js";
import { Receipt } from "./receipt.js";

/** Older lines are removed, so that a page left open does not grow for ever. */
const MAX_LINES = 200;
const MAX_SHOWN_CHARACTERS = 2000;
/** Within this distance of the end, the list follows new lines. A visitor who has scrolled up stays in place. */
const FOLLOW_PIXELS = 40;

/** The meaning of the server's own events. */
const MEANINGS = {
  _settings: () => "the first event of every connection",
  _batch: ([messages]) => `${count(messages.length, "message")} that waited for this device`,
  _resync: () => "the queue is gone: fetch everything anew",
};

/** Lives as long as its device's panel. */
export class Inbox {
  #region;
  #list;
  /** @type {Receipt[]} the receipts of the present connection */
  #receipts = [];
  #isFollowing = true;
  #lastError = { text: "", times: 0, line: null };

  /** @param {HTMLElement} region the scrolling element around the list */
  constructor(region) {
    this.#region = region;
    this.#list = region.querySelector("ol");
    region.addEventListener("scroll", () => {
      this.#isFollowing = region.scrollHeight - region.scrollTop - region.clientHeight < FOLLOW_PIXELS;
    });
    // In a narrower list the lines wrap, which moves its end.
    new ResizeObserver(() => this.#follow()).observe(region);
  }

  /** Adds a line about the connection. @param {string} text */
  addNote(text) {
    this.#add("note", element("span", {}, text));
  }

  /** Adds a line about a fault; the same fault again is counted. @param {string} text */
  addError(text) {
    const { text: lastText, times, line } = this.#lastError;
    if (text === lastText && line === this.#list.lastElementChild) {
      line.querySelector("span").textContent = `${text} (${times + 1} times)`;
      this.#lastError.times += 1;
    } else {
      this.#lastError = { text, times: 1, line: this.#add("error", element("span", {}, text)) };
    }
  }

  /**
   * Adds what arrived; a `_batch` is unfolded.
   * @param {string} event
   * @param {unknown[]} args
   * @param {(() => void) | null} acknowledge null when the server asked for no receipt
   * @returns {Receipt | null} not given yet
   */
  addMessage(event, args, acknowledge) {
    const meaning = MEANINGS[event];
    const parts = event === "_batch" ? [element("code", { className: "event" }, event)] : [describe(event, args)];
    if (meaning) {
      parts.push(" ", element("span", { className: "meaning" }, meaning(args)));
    }
    if (event === "_batch") {
      const messages = args[0].map(([name, ...values]) => element("li", {}, describe(name, values)));
      parts.push(element("ol", { className: "batch" }, ...messages));
    }
    const receipt = acknowledge && new Receipt(acknowledge);
    if (receipt) {
      this.#receipts.push(receipt);
      parts.push(receipt.element);
    }
    this.#add(meaning ? "own" : "message", ...parts);
    return receipt;
  }

  /** The connection is over: its open receipts can no longer be given. */
  endSession() {
    this.#receipts.forEach((receipt) => receipt.expire());
    this.#receipts = [];
  }

  #add(kind, ...parts) {
    const now = new Date();
    const time = element("time", { dateTime: now.toISOString() }, now.toLocaleTimeString("en-GB"));
    const line = element("li", { className: kind }, time, element("div", {}, ...parts));
    this.#list.append(line);
    if (this.#list.childElementCount > MAX_LINES) {
      this.#list.firstElementChild.remove();
    }
    this.#follow();
    return line;
  }

  #follow() {
    if (this.#isFollowing) {
      this.#region.scrollTop = this.#region.scrollHeight;
    }
  }
}

/** An event's name and arguments. */
function describe(event, args) {
  const text = args.map((value) => JSON.stringify(value)).join(", ");
  const shown = text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}… (${text.length} characters)` : text;
  return element("span", { className: "content" }, element("code", { className: "event" }, event), " ", element("code", {}, shown));
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
