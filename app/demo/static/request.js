/** The form as a request to POST /send, and as a curl command. Pure: knows no page. */

export const SITE = "demo";
const API_KEY = "demo";

/**
 * A request to POST /send.
 * @typedef {{url: string, body: string}} SendRequest
 */

/**
 * Builds the request.
 * @param {string} origin the server's, without a slash at the end
 * @param {{rooms: string, event: string, args: string, resync: boolean}} form `rooms` with commas between them, `args`
 *   as JSON; empty `args` are left out
 * @returns {SendRequest}
 * @throws {SyntaxError} when `args` is no JSON
 */
export function buildRequest(origin, { rooms, event, args, resync }) {
  const query = new URLSearchParams({ site: SITE, apiKey: API_KEY, resync: String(resync) });
  const message = { rooms: parseRooms(rooms), event };
  if (args.trim()) {
    message.args = JSON.parse(args);
  }
  return { url: `${origin}/send?${query}`, body: JSON.stringify(message) };
}

/**
 * The names in a list with commas.
 * @param {string} text
 * @returns {string[]}
 */
export function parseRooms(text) {
  return text
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
}

/**
 * The request as a line for a shell.
 * @param {SendRequest} request
 * @returns {string}
 */
export function curlLine({ url, body }) {
  return `curl ${quote(url)} -H 'Content-Type: application/json' -d ${quote(body)}`;
}

/** Inside single quotes a shell changes nothing; only the single quote itself needs escaping. */
function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
