/** The acknowledgement of one message, or of one `_batch`: whether it was given, and the button that gives it. */

import { element } from "./elements.js";

/** Lives as long as its line in the inbox. */
export class Receipt {
  #acknowledge;
  #isOpen = true;

  /** @param {() => void} acknowledge tells the server; worth something only on the connection that brought the message */
  constructor(acknowledge) {
    this.#acknowledge = acknowledge;
    const button = element("button", { type: "button", className: "quiet" }, "Acknowledge now");
    button.addEventListener("click", () => {
      // The button disappears: move the keyboard's focus to the list.
      this.element.closest("[role=log]").focus();
      this.give();
    });
    /** Shows the state; the inbox places it. */
    this.element = element("span", { className: "receipt" });
    this.#show("open", "not acknowledged", button);
  }

  /** Acknowledges, once. */
  give() {
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#acknowledge();
      this.#show("given", "acknowledged");
    }
  }

  /** The connection ended first: the server will bring the message again. */
  expire() {
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#show("expired", "not acknowledged: will come again");
    }
  }

  #show(state, ...content) {
    this.element.dataset.state = state;
    this.element.replaceChildren(...content);
  }
}
