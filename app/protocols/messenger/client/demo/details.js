/** The details of a conversation: a contact's name, mute and block; a room, its members and admins; a new room. */

import { attempt, onSubmit } from "./forms.js";
import { element } from "./elements.js";
import { nameOf, titleOf } from "./names.js";

/** Lives as long as the page. */
export class Details {
  #panel;
  #contact;
  #room;
  #chat;
  #onRoom;
  #to = null;

  /** @param {function(object): void} onRoom opens the conversation of a room that was made or changed */
  constructor(panel, chat, onRoom) {
    this.#panel = panel;
    this.#chat = chat;
    this.#onRoom = onRoom;
    this.#contact = panel.querySelector(".contact");
    this.#room = panel.querySelector(".room");
    onSubmit(this.#contact, ({ name, muted, blocked }) =>
      chat.ask("contact", {
        user: this.#to.user,
        name: name.value.trim() || null,
        muted: muted.checked,
        blocked: blocked.checked,
      }),
    );
    onSubmit(this.#room, (fields) => this.#save(fields));
    this.#button(".leave", () => chat.ask("room_leave", { id: this.#to.room }));
    this.#button(".archive", () => {
      const { id, archived } = chat.rooms.get(this.#to.room);
      return chat.ask("room_archive", { id, archived: !archived });
    });
    chat.on("directory", ({ rooms, contacts }) => (rooms?.length || contacts?.length) && this.#refresh());
  }

  /** Shows a conversation; null: a room that is to be made. */
  show(to) {
    this.#to = to;
    const isRoom = to?.user == null;
    this.#contact.hidden = isRoom;
    this.#room.hidden = !isRoom;
    this.#panel.querySelectorAll(".problem").forEach((one) => (one.textContent = ""));
    this.#panel.querySelector("h3").textContent = to ? titleOf(this.#chat, to) : "A new room";
    isRoom ? this.#showRoom() : this.#showContact();
  }

  #button(selector, work) {
    this.#room.querySelector(selector).addEventListener("click", () => attempt(this.#room, work));
  }

  /** Another device may have changed it. */
  #refresh() {
    if (!this.#panel.hidden && this.#to && (this.#to.user ?? this.#chat.rooms.has(this.#to.room))) {
      this.show(this.#to);
    }
  }

  #showContact() {
    const { name, muted, blocked } = this.#chat.contacts.get(this.#to.user) ?? {};
    const user = this.#chat.users.get(this.#to.user);
    const fields = this.#contact.elements;
    fields.name.value = name ?? "";
    fields.name.placeholder = user?.name ?? "";
    fields.muted.checked = Boolean(muted);
    fields.blocked.checked = Boolean(blocked);
    this.#contact.querySelector(".sign").textContent = [`Login ${user?.login}`, user?.sign].filter(Boolean).join(" · ");
  }

  #showRoom() {
    const me = this.#chat.user;
    const room = this.#to && this.#chat.rooms.get(this.#to.room);
    const { name, kind, description, members, admins, archived } = room ?? {
      name: "",
      kind: "chat",
      description: "",
      members: [me.id],
      admins: [me.id],
    };
    const isAdmin = admins.includes(me.id) || Boolean(this.#chat.users.get(me.id)?.admin ?? me.admin);
    const fields = this.#room.elements;
    fields.name.value = name;
    fields.kind.value = kind;
    fields.description.value = description;
    const people = [...this.#chat.users.values()].filter((one) => !one.disabled || members.includes(one.id));
    const rows = people.map((one) => this.#member(one.id, members.includes(one.id), admins.includes(one.id)));
    this.#room.querySelector(".members").replaceChildren(...rows);
    this.#room.querySelector("fieldset").disabled = !isAdmin;
    this.#room.querySelector(".save").hidden = !isAdmin;
    this.#room.querySelector(".save").textContent = room ? "Save" : "Make the room";
    this.#room.querySelector(".leave").hidden = !room;
    this.#room.querySelector(".archive").hidden = !(room && isAdmin);
    this.#room.querySelector(".archive").textContent = archived ? "Take back" : "Archive";
  }

  #member(id, isMember, isAdmin) {
    const name = id === this.#chat.user.id ? "You" : nameOf(this.#chat, id);
    const check = (field, checked, label) =>
      element(
        "label",
        { className: "check" },
        element("input", { type: "checkbox", name: field, value: String(id), checked, ariaLabel: `${label}: ${name}` }),
        element("span", { ariaHidden: "true" }, field === "member" ? name : label),
      );
    return element("li", { className: "row" }, check("member", isMember, "Member"), check("admin", isAdmin, "Admin"));
  }

  async #save({ name, kind, description }) {
    const chosen = (field) =>
      [...this.#room.querySelectorAll(`[name=${field}]`)].filter((one) => one.checked).map((one) => Number(one.value));
    const admins = chosen("admin");
    // An admin is a member.
    const members = [...new Set([...chosen("member"), ...admins])];
    const values = { name: name.value, kind: kind.value, description: description.value, members, admins };
    const room = this.#to
      ? (await this.#chat.ask("room_change", { id: this.#to.room, ...values }), this.#to.room)
      : (await this.#chat.ask("room_create", values)).id;
    this.#onRoom({ room });
  }
}
