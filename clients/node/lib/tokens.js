// Signs the tokens of a site's users: JWTs with the user and the rooms, which the server checks by itself.

import { createHmac } from "node:crypto";

import { BadInput } from "./errors.js";

/** Tokens count until they run out, so they run out soon. */
const EXPIRES_IN_SECONDS = 600;
const OWN = ["iss", "aud", "sub", "rooms", "iat", "exp"];

export function signToken(settings, user, rooms = [], { expiresIn = EXPIRES_IN_SECONDS, claims = {} } = {}) {
  if (!settings.tokenSecret) throw new BadInput("tokenSecret: expected the secret of the site's tokens");
  const isUser = ["string", "number"].includes(typeof user) && String(user) !== "";
  if (!isUser) throw new BadInput("user: expected the user's id");
  if (!(expiresIn > 0)) throw new BadInput("expiresIn: expected more than 0 seconds");
  const taken = OWN.find((name) => Object.hasOwn(claims, name));
  if (taken) throw new BadInput(`claims: ${taken} is a claim of the token itself`);
  const now = Math.floor(Date.now() / 1000);
  const own = { iss: settings.tokenIssuer, sub: String(user), rooms: [...rooms], iat: now, exp: now + expiresIn };
  const told = { ...own, ...(settings.tokenAudience && { aud: settings.tokenAudience }), ...claims };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(told)}`;
  return `${signed}.${createHmac("sha256", settings.tokenSecret).update(signed).digest("base64url")}`;
}

function encode(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
