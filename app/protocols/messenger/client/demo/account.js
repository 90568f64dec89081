/** The account of one person: the profile, the password, the devices, and strangers who want to be let in. */

import { attempt, onSubmit } from "./forms.js";
import { element } from "./elements.js";

/** Lives as long as the page. */
export class Account {
  #panel;
  #chat;

  /** @param {function(): void} onLogOut ends every session of the user */
  constructor(panel, chat, onLogOut) {
    this.#panel = panel;
    this.#chat = chat;
    onSubmit(this.#find(".profile"), ({ name, sign }) => chat.ask("profile", { name: name.value, sign: sign.value }));
    const password = this.#find(".change-password");
    onSubmit(password, async ({ old, fresh }) => {
      await chat.changePassword(old.value, fresh.value);
      password.reset();
      password.querySelector(".done").textContent = "Changed. Every other device is logged out.";
    });
    onSubmit(this.#find(".device-name"), ({ device }) => chat.ask("device_name", { name: device.value }));
    this.#find(".everywhere").addEventListener("click", onLogOut);
    chat.on("directory", (change) => this.#refresh(change));
  }

  /** Shows what is known now. */
  show() {
    const { name, sign } = this.#chat.users.get(this.#chat.user.id) ?? this.#chat.user;
    const fields = this.#find(".profile").elements;
    [fields.name.value, fields.sign.value] = [name, sign];
    this.#find(".device-name").elements.device.value = this.#chat.devices.get(this.#chat.deviceId)?.name ?? "";
    this.#find(".change-password .done").textContent = "";
    this.#showDevices();
    this.#showRegistrations();
  }

  #find(selector) {
    return this.#panel.querySelector(selector);
  }

  #refresh({ devices, registrations }) {
    if (devices?.length) {
      this.#showDevices();
    }
    if (registrations?.length) {
      this.#showRegistrations();
    }
  }

  #showDevices() {
    const devices = [...this.#chat.devices.values()].sort((one, other) => other.seen_at - one.seen_at);
    this.#find(".devices").replaceChildren(...devices.map((device) => this.#device(device)));
  }

  #device({ id, name, model, os, app, seen_at: seenAt }) {
    const title = name || model || os || "A browser";
    const isThis = id === this.#chat.deviceId;
    const about = [app && `${app.name} ${app.version}`, isThis ? "this device" : `seen ${shortTime(seenAt)}`];
    return element("li", {}, element("strong", {}, title), element("span", { className: "hint" }, about.filter(Boolean).join(" · ")));
  }

  #showRegistrations() {
    const waiting = [...this.#chat.registrations.values()].filter((one) => one.state === "waiting");
    const section = this.#find(".registrations");
    section.hidden = !waiting.length;
    const list = section.querySelector("ul");
    // Rows stay, so that the keyboard stays on their buttons.
    const shown = new Map([...list.children].map((item) => [Number(item.dataset.id), item]));
    shown.forEach((item, id) => waiting.some((one) => one.id === id) || item.remove());
    list.append(...waiting.filter(({ id }) => !shown.has(id)).map((one) => this.#registration(one)));
  }

  #registration({ id, login, name }) {
    const item = element("li", { className: "row" });
    item.dataset.id = id;
    const decide = (label, event) => {
      const onclick = () => attempt(item, () => this.#chat.ask(event, { id }));
      return element("button", { type: "button", className: "quiet", ariaLabel: `${label} ${login}`, onclick }, label);
    };
    const buttons = [decide("Accept", "registration_accept"), decide("Refuse", "registration_refuse")];
    item.append(
      element("span", {}, element("strong", {}, name), ` as ${login}`),
      element("span", { className: "buttons" }, ...buttons),
      element("p", { className: "problem", role: "alert" }),
    );
    return item;
  }
}

function shortTime(at) {
  return new Date(at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
}
