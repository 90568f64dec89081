/** The field in which one person writes, and attaches files. */

import { MessengerError } from "/recado/messenger.js";

const QUOTED = 80;

/** Lives as long as the page. */
export class Composer {
  /** The conversation that gets what is written; null: none is open. */
  to = null;
  #form;
  #chat;
  #reply = null;

  constructor(form, chat) {
    this.#form = form;
    this.#chat = chat;
    const field = form.elements.text;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    field.addEventListener("input", () => {
      if (this.to && field.value) {
        chat.typing(this.to);
      }
    });
    const file = form.querySelector("[type=file]");
    file.addEventListener("change", () => {
      const [chosen] = file.files;
      file.value = "";
      if (chosen && this.to) {
        this.#upload(this.to, chosen);
      }
    });
  }

  /** Begins an answer to a message. */
  quote(message) {
    const field = this.#form.elements.text;
    const first = message.text.split("\n").find((line) => !line.startsWith("> ")) ?? "";
    this.#reply = message.id;
    field.value = `> [#${message.id}] ${first.slice(0, QUOTED)}\n${field.value}`;
    field.focus();
  }

  #send() {
    const field = this.#form.elements.text;
    const text = field.value.trimEnd();
    if (!text || !this.to) {
      return;
    }
    const isReply = this.#reply !== null && text.includes(`[#${this.#reply}]`);
    const more = { data: { format: "simple" }, ...(isReply && { reply_to: this.#reply }) };
    this.#reply = null;
    field.value = "";
    this.#tell("");
    this.#chat.send(this.to, text, more).catch((error) => this.#tell(error));
  }

  async #upload(to, file) {
    const bar = this.#form.querySelector("progress");
    bar.ariaLabel = `Upload of ${file.name}`;
    bar.hidden = false;
    this.#tell("");
    try {
      const onProgress = (sent, size) => Object.assign(bar, { max: size || 1, value: sent });
      const sent = await this.#chat.upload(file, { onProgress });
      await this.#chat.send(to, file.name, { kind: "file", file: sent });
    } catch (error) {
      this.#tell(error);
    }
    bar.hidden = true;
  }

  #tell(problem) {
    const words = problem instanceof MessengerError ? problem.message : String(problem);
    this.#form.querySelector(".problem").textContent = words;
  }
}
