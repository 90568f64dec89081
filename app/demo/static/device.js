/** The panel of one device: its choices, its connection's state, and the inbox below. */

import { openClient } from "./client.js";
import { Inbox } from "./inbox.js";

/** The words for each state, and the label of the button in it. */
const STATES = {
  off: { text: "away", action: "Come back" },
  connecting: { text: "connecting…", action: "Disconnect" },
  connected: { text: "connected", action: "Disconnect" },
  waiting: { text: "reconnecting…", action: "Disconnect" },
  refused: { text: "refused", action: "Try again" },
};

/** Lives until its Remove button is pressed, which closes its connection. */
export class DevicePanel {
  #form;
  #inbox;
  #client = null;
  /** @type {import("./client.js").State} */
  #state = "off";
  #transport = "";
  /** From `_settings`: how long messages wait for a device that is away; null before the first connection. */
  #deviceTtlSeconds = null;

  /** @param {{user: string, device: string}} suggestion the first values of the form */
  constructor({ user, device }) {
    const template = document.querySelector("#device-template");
    /** The panel; the caller places it. */
    this.element = template.content.firstElementChild.cloneNode(true);
    this.#form = this.element.querySelector("form");
    this.#inbox = new Inbox(this.element.querySelector(".inbox"));
    this.#form.elements.user.value = user;
    this.#form.elements.device.value = device;
    this.#form.addEventListener("input", () => this.#showTitle());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#client ? this.#disconnect() : this.connect();
    });
    this.element.querySelector(".remove").addEventListener("click", () => this.#remove());
    this.#showTitle();
    this.#showState("not connected", "Connect");
  }

  /** Puts the keyboard where the visitor chooses the user. */
  focus() {
    this.#form.elements.user.focus();
  }

  /** Connects with the values of the form. */
  connect() {
    if (!("io" in window)) {
      this.#inbox.addError("The Socket.IO client is missing: see the notice above.");
      return;
    }
    const { user, device, transport } = this.#form.elements;
    this.#client = openClient(
      { user: user.value, device: device.value, transports: transport.value.split(",") },
      {
        stateChanged: (state, reason) => this.#changeState(state, reason),
        transportChanged: (name) => this.#changeTransport(name),
        messageReceived: (event, args, acknowledge) => this.#receive(event, args, acknowledge),
      },
    );
  }

  #disconnect() {
    const client = this.#client;
    client.close();
    // A connection that is still being tried closes without an event.
    if (this.#client) {
      this.#changeState("off", "io client disconnect");
    }
  }

  #remove() {
    this.#client?.close();
    this.element.remove();
    document.querySelector("#add-device").focus();
  }

  #receive(event, args, acknowledge) {
    if (event === "_settings") {
      this.#deviceTtlSeconds = args[0]?.device_ttl ?? null;
    }
    const receipt = this.#inbox.addMessage(event, args, acknowledge);
    if (this.#form.elements.acknowledge.checked) {
      receipt?.give();
    }
  }

  /** The one place where the state changes. */
  #changeState(state, reason) {
    const wasConnected = this.#state === "connected";
    this.#state = state;
    if (state === "off" || state === "refused") {
      this.#client = null;
    }
    if (state === "connected") {
      this.#inbox.addNote("Connected");
    } else if (wasConnected) {
      this.#inbox.endSession();
      this.#inbox.addNote(`Disconnected (${reason})${this.#waitingTime()}`);
    } else if (state === "waiting" || state === "refused") {
      this.#inbox.addError(`connect_error: ${reason}`);
    }
    this.#showState();
  }

  #changeTransport(name) {
    this.#transport = name;
    this.#showState();
  }

  #waitingTime() {
    if (this.#deviceTtlSeconds === null) {
      return "";
    }
    return this.#deviceTtlSeconds === 0
      ? "; messages wait until it comes back"
      : `; messages wait ${this.#deviceTtlSeconds} s for it`;
  }

  #showTitle() {
    const { user, device } = this.#form.elements;
    const title = device.value ? `${user.value} on ${device.value}` : user.value;
    this.element.querySelector(".device-title").textContent = title;
    this.element.setAttribute("aria-label", title);
    this.element.querySelector(".inbox").setAttribute("aria-label", `What ${title} received`);
    this.element.querySelector(".remove").setAttribute("aria-label", `Remove ${title}`);
  }

  #showState(text = STATES[this.#state].text, action = STATES[this.#state].action) {
    const pill = this.element.querySelector(".state");
    pill.dataset.state = this.#state;
    pill.textContent = this.#state === "connected" ? `${text} · ${this.#transport}` : text;
    const isIdle = this.#state === "off" || this.#state === "refused";
    const button = this.#form.querySelector("[type=submit]");
    button.textContent = action;
    button.classList.toggle("primary", isIdle);
    this.#form.querySelector("fieldset").disabled = !isIdle;
  }
}
