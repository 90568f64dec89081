/** One message as it is shown: its head, its text or file, and what may be done with it. */

import { conversationOf, render } from "/recado/messenger.js";
import { element } from "./elements.js";
import { conversationsOf, nameOf, sizeOf, titleOf, toOf } from "./names.js";

const LABEL = 40;
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];

/** What the thread does for a message: `onReply`, `onEdit` and `onForward(message, to)`, `onDelete`. */

/** The item of a message; `prefix` begins its id in the page. */
export function messageItem(chat, message, prefix, acts) {
  const isOwn = isOwnMessage(chat, message);
  const name = isOwn ? "You" : nameOf(chat, message.from);
  const at = new Date(message.at);
  const head = element(
    "div",
    { className: "message-head" },
    element("strong", {}, name),
    element("time", { dateTime: at.toISOString(), title: at.toLocaleString() }, at.toTimeString().slice(0, 5)),
  );
  if (message.forward_of) {
    head.append(element("span", {}, "forwarded"));
  }
  if (message.changed_at) {
    head.append(element("span", {}, "changed"));
  }
  if (isOwn) {
    head.append(element("span", { className: "ticks" }));
  }
  const item = element("li", { className: isOwn ? "message own" : "message", id: `${prefix}-${message.id}`, tabIndex: -1 }, head);
  item.append(message.file ? fileOf(chat, message.file) : render(message, (id) => `#${prefix}-${id}`));
  if (typeof message.id === "number") {
    const about = `${name}: ${message.text.slice(0, LABEL)}`;
    const more = quiet("More", `More for ${about}`, () => toggle(chat, item, more, message, about, acts));
    more.ariaExpanded = "false";
    head.append(element("span", { className: "buttons" }, quiet("Reply", `Reply to ${about}`, () => acts.onReply(message)), more));
  }
  return item;
}

/** Whether the person has written it; one that waits has no sender yet. */
export function isOwnMessage(chat, message) {
  return message.from === undefined || message.from === chat.user.id;
}

function quiet(label, ariaLabel, onclick) {
  return element("button", { type: "button", className: "quiet", ariaLabel, onclick }, label);
}

/** Opens or closes the row of what is done less often. */
function toggle(chat, item, button, message, about, acts) {
  const isOpen = button.ariaExpanded === "true";
  button.ariaExpanded = String(!isOpen);
  if (isOpen) {
    item.querySelector(".acts").remove();
    return;
  }
  const all = conversationsOf(chat);
  const choice = element(
    "select",
    { ariaLabel: `Forward ${about} to` },
    ...all.map((to) => element("option", { value: conversationOf(to) }, titleOf(chat, to))),
  );
  const forward = () => acts.onForward(message, all.find((to) => conversationOf(to) === choice.value));
  const row = element("div", { className: "acts" }, choice, quiet("Forward", `Forward ${about}`, forward));
  if (isOwnMessage(chat, message) && !message.file) {
    row.append(quiet("Edit", `Edit ${about}`, () => acts.onEdit(message)));
  }
  if (mayDelete(chat, message)) {
    row.append(quiet("Delete", `Delete ${about}`, () => acts.onDelete(message)));
  }
  row.append(element("p", { className: "problem", role: "alert" }));
  item.append(row);
  row.scrollIntoView({ block: "nearest" });
}

/** One's own, and any in a room of which one is an admin. */
function mayDelete(chat, message) {
  const room = chat.rooms.get(toOf(chat, message).room);
  return isOwnMessage(chat, message) || Boolean(room?.admins.includes(chat.user.id));
}

function fileOf(chat, file) {
  const label = `${file.name || "a file"}, ${sizeOf(file.size)}`;
  if (PICTURES.includes(file.type)) {
    const picture = element("img", { alt: file.name || "a picture", title: label });
    chat.fileLink(file.id).then(
      (link) => (picture.src = link),
      () => picture.replaceWith(label),
    );
    return picture;
  }
  const problem = element("p", { className: "problem", role: "alert" });
  const save = async () => {
    problem.textContent = "";
    try {
      element("a", { href: await chat.fileLink(file.id), download: file.name }).click();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  return element("div", {}, element("button", { type: "button", className: "quiet", onclick: save }, `Save ${label}`), problem);
}
