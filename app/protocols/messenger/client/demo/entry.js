/** The way in: login, registration, and the other password that an operator wants. */

import { onSubmit } from "./forms.js";

const SECOND_MS = 1_000;
const ENDED = {
  session_void: "You were logged out: by another device, by another password, or because the session was too old.",
};

/** Lives as long as the page. */
export class Entry {
  #element;
  #chat;
  #login;
  #timer;

  /** @param {{login: string, password: string}} person the first values of the login */
  constructor(element, chat, { login, password }) {
    this.#element = element;
    this.#chat = chat;
    this.#login = element.querySelector(".login");
    this.#login.elements.login.value = login;
    this.#login.elements.password.value = password;
    onSubmit(this.#login, (fields) => this.#logIn(fields));
    const register = element.querySelector(".register");
    onSubmit(register.querySelector("form"), (fields) => this.#register(register, fields));
    const other = element.querySelector(".other-password");
    onSubmit(other, async ({ old, fresh }) => {
      await chat.changePassword(old.value, fresh.value);
      other.reset();
    });
    chat.on("state", (state, reason) => this.#showEnd(state, reason));
  }

  /** Shows the forms of this state. */
  show(state, isIn) {
    const mustChange = state === "password";
    this.#element.hidden = isIn && !mustChange;
    this.#login.hidden = mustChange;
    this.#element.querySelector(".register").hidden = mustChange;
    this.#element.querySelector(".other-password").hidden = !mustChange;
    if (mustChange) {
      this.#element.querySelector(".other-password input").focus();
    }
  }

  /** Puts the keyboard into the first field. */
  focus() {
    this.#login.elements.login.focus();
  }

  async #logIn({ login, password }) {
    try {
      await this.#chat.login(login.value, password.value);
    } catch (error) {
      if (error.code === "blocked") {
        this.#countDown(error.retryAfter);
      }
      throw error;
    }
  }

  /** Shows how long the block lasts; until then nobody gets in from here. */
  #countDown(seconds) {
    const line = this.#login.querySelector(".countdown");
    const button = this.#login.querySelector("[type=submit]");
    const until = Date.now() + seconds * SECOND_MS;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / SECOND_MS);
      const isOver = left <= 0;
      line.textContent = isOver ? "" : `Try again in ${left} s.`;
      button.disabled = !isOver;
      if (isOver) {
        clearInterval(this.#timer);
        this.#login.querySelector(".problem").textContent = "";
      }
    };
    clearInterval(this.#timer);
    this.#timer = setInterval(tick, SECOND_MS);
    tick();
  }

  async #register(details, { login, name, password }) {
    await this.#chat.register({ login: login.value, name: name.value, password: password.value });
    details.querySelector(".done").textContent = `${login.value} waits. Log in here once somebody has accepted it.`;
    this.#login.elements.login.value = login.value;
    this.#login.elements.password.value = "";
    details.querySelector("form").reset();
  }

  /** Tells why the session is over, until the next login. */
  #showEnd(state, reason) {
    const line = this.#element.querySelector(".ended");
    if (state === "login" && ENDED[reason]) {
      line.textContent = ENDED[reason];
    } else if (state === "online" || state === "password") {
      line.textContent = "";
      this.#element.querySelector(".done").textContent = "";
    }
    line.hidden = !line.textContent;
  }
}
