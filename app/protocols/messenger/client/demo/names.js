/** The names of users, conversations and errors, as one person sees them. */

import { MessengerError } from "/recado/messenger.js";

/** A user's name: the one of the person's own contact first. */
export function nameOf(chat, id) {
  return chat.contacts.get(id)?.name || chat.users.get(id)?.name || `user ${id}`;
}

export function titleOf(chat, to) {
  return to.room == null ? nameOf(chat, to.user) : (chat.rooms.get(to.room)?.name ?? "a room");
}

/** The conversation of a message. */
export function toOf(chat, message) {
  if (message.to.room != null) {
    return { room: message.to.room };
  }
  return { user: message.from === chat.user.id ? message.to.user : message.from };
}

/** All conversations: rooms, then people; archived rooms come last. */
export function conversationsOf({ rooms, users, user }) {
  if (!user) {
    return [];
  }
  const others = [...users.values()].filter((one) => one.id !== user.id && !one.disabled);
  const [open, archived] = [false, true].map((is) => [...rooms.values()].filter((one) => Boolean(one.archived) === is));
  const toRoom = ({ id }) => ({ room: id });
  return [...open.map(toRoom), ...others.map(({ id }) => ({ user: id })), ...archived.map(toRoom)];
}

/** The words for codes that the server has none for, or too many. */
const OWN_WORDS = {
  blocked: "Blocked after too many wrong passwords.",
  offline: "There is no connection to the server.",
  timeout: "The server does not answer.",
};

/** An error in a visitor's words. */
export function wordsOf(error) {
  if (!(error instanceof MessengerError)) {
    return error.name === "AbortError" ? "" : String(error);
  }
  return OWN_WORDS[error.code] ?? error.message;
}

const UNITS = ["bytes", "KB", "MB", "GB"];

/** A number of bytes in words. */
export function sizeOf(bytes) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${UNITS[power]}`;
}
