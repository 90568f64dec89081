/** The field in which one person writes and edits messages, and attaches files. */

import { sizeOf, wordsOf } from "./names.js";

const QUOTED = 80;

/** Lives as long as the page. */
export class Composer {
  /** The conversation that gets what is written; null: none is open. */
  #to = null;
  #form;
  #chat;
  #reply = null;
  /** The message that is being edited. */
  #edited = null;
  #upload = null;

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
      } else if (event.key === "Escape" && this.#edited) {
        this.#endEdit();
      }
    });
    field.addEventListener("input", () => {
      if (this.#to && field.value) {
        chat.typing(this.#to);
      }
    });
    const file = form.querySelector("[type=file]");
    file.addEventListener("change", () => {
      const [chosen] = file.files;
      file.value = "";
      if (chosen && this.#to) {
        this.#sendFile(this.#to, chosen);
      }
    });
    form.querySelector(".cancel-edit").addEventListener("click", () => this.#endEdit());
    form.querySelector(".cancel-upload").addEventListener("click", () => this.#upload?.abort());
  }

  /** What is written goes to this conversation. */
  open(to) {
    this.#to = to;
    this.#tell("");
    this.#endEdit();
  }

  /** Begins an answer to a message. */
  quote(message) {
    const field = this.#form.elements.text;
    const first = message.text.split("\n").find((line) => !line.startsWith("> ")) ?? "";
    this.#reply = message.id;
    field.value = `> [#${message.id}] ${first.slice(0, QUOTED)}\n${field.value}`;
    field.focus();
  }

  /** Puts a message of one's own into the field, to be changed. */
  edit(message) {
    const field = this.#form.elements.text;
    this.#edited = message;
    field.value = message.text;
    this.#form.querySelector(".editing").hidden = false;
    field.focus();
  }

  async #send() {
    const field = this.#form.elements.text;
    const text = field.value.trimEnd();
    if (!text || !this.#to) {
      return;
    }
    this.#tell("");
    try {
      if (this.#edited) {
        await this.#chat.ask("edit", { id: this.#edited.id, text });
        this.#endEdit();
        // The change goes to the other devices alone.
        await this.#chat.sync();
        return;
      }
      const isReply = this.#reply !== null && text.includes(`[#${this.#reply}]`);
      const more = { data: { format: "simple" }, ...(isReply && { reply_to: this.#reply }) };
      this.#reply = null;
      field.value = "";
      await this.#chat.send(this.#to, text, more);
    } catch (error) {
      this.#tell(error);
    }
  }

  #endEdit() {
    if (this.#edited) {
      this.#form.elements.text.value = "";
    }
    this.#edited = null;
    this.#form.querySelector(".editing").hidden = true;
  }

  async #sendFile(to, file) {
    const row = this.#form.querySelector(".upload");
    const bar = row.querySelector("progress");
    const upload = (this.#upload = new AbortController());
    bar.ariaLabel = `Upload of ${file.name}`;
    row.hidden = false;
    this.#tell("");
    try {
      const onProgress = (sent, size) => {
        Object.assign(bar, { max: size || 1, value: sent });
        row.querySelector(".amount").textContent = `${file.name}: ${sizeOf(sent)} of ${sizeOf(size)}`;
      };
      const sent = await this.#chat.upload(file, { onProgress, signal: upload.signal });
      await this.#chat.send(to, file.name, { kind: "file", file: sent });
    } catch (error) {
      this.#tell(error);
    }
    row.hidden = upload === this.#upload;
  }

  #tell(problem) {
    this.#form.querySelector(".problem").textContent = problem ? wordsOf(problem) : "";
  }
}
