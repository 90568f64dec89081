// The answer of a site's `authUrl`, and the token in its request.

import { BadInput } from "./errors.js";

/** The server refuses more. */
const MOST_ROOMS = 10_000;
const MAX_ROOM_BYTES = 1_000;

/** The answer that lets a user in, with these rooms; null refuses the user with 401. */
export function authAnswer(rooms) {
  const headers = { "content-type": "application/json", "cache-control": "no-store" };
  if (rooms === null || rooms === undefined)
    return { status: 401, headers, body: '{"error": "Authentication failed"}' };
  if (!Array.isArray(rooms) || rooms.length > MOST_ROOMS)
    throw new BadInput(`rooms: expected a list of at most ${MOST_ROOMS} rooms`);
  if (!rooms.every(isRoom))
    throw new BadInput(`rooms: expected texts and numbers of at most ${MAX_ROOM_BYTES} bytes`);
  return { status: 200, headers, body: JSON.stringify(rooms) };
}

/** The token behind the scheme of an `Authorization` header; null without one. */
export function tokenIn(authorization) {
  const [, token = ""] = /^\S+ +(.*)$/s.exec(authorization ?? "") ?? [];
  return token.trim() || null;
}

function isRoom(room) {
  const isName = typeof room === "string" || Number.isFinite(room);
  return isName && Buffer.byteLength(String(room)) <= MAX_ROOM_BYTES;
}
