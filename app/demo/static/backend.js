/** The backend's side: the form, the answer of POST /send, and the curl line that follows the form. */

import { buildRequest, curlLine, parseRooms } from "./request.js";

const COPIED_SHOWN_MS = 1500;

const form = document.querySelector("#send-form");
const fields = form.elements;
const answer = document.querySelector("#answer");
const curl = document.querySelector("#curl");
const problem = document.querySelector("#args-problem");
const copyButton = document.querySelector("#copy");
const roomButtons = [...document.querySelectorAll("#room-choices button")];

/** Makes the form work. */
export function startBackend() {
  form.addEventListener("input", showForm);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  roomButtons.forEach((button) => button.addEventListener("click", () => toggleRoom(button.textContent)));
  copyButton.addEventListener("click", copyCurl);
  showForm();
}

/** @returns {import("./request.js").SendRequest} throws SyntaxError when the arguments are no JSON */
function requestOfForm() {
  return buildRequest(location.origin, {
    rooms: fields.rooms.value,
    event: fields.event.value,
    args: fields.args.value,
    resync: fields.resync.checked,
  });
}

function showForm() {
  const rooms = parseRooms(fields.rooms.value);
  roomButtons.forEach((button) => button.setAttribute("aria-pressed", String(rooms.includes(button.textContent))));
  try {
    curl.textContent = curlLine(requestOfForm());
    showProblem("");
  } catch (error) {
    showProblem(`Arguments: expected JSON. ${error.message}`);
  }
}

/** With a problem in the form there is no request: the old curl line would be wrong, and is removed. */
function showProblem(text) {
  problem.textContent = text;
  fields.args.setAttribute("aria-invalid", String(text !== ""));
  copyButton.disabled = text !== "";
  if (text) {
    curl.textContent = "";
    // The answer before is of another request.
    answer.textContent = "";
  }
}

async function send() {
  let request;
  try {
    request = requestOfForm();
  } catch {
    fields.args.focus();
    return;
  }
  const startedAt = performance.now();
  try {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    const response = await fetch(request.url, { method: "POST", headers, body: request.body });
    const { error, recipients } = await response.json();
    const text = response.ok ? `OK · ${storedFor(recipients)}` : error;
    const isHeard = response.ok && recipients > 0;
    showAnswer(isHeard, `${response.status} ${text} · ${Math.round(performance.now() - startedAt)} ms`);
  } catch {
    showAnswer(false, "No answer: the server cannot be reached.");
  }
}

/** A message for rooms that nobody has is no error, and yet hardly what the visitor wanted. */
function storedFor(recipients) {
  if (recipients === 0) {
    return "no device has any of these rooms, so nobody gets it";
  }
  return `stored for ${recipients} ${recipients === 1 ? "device" : "devices"}`;
}

function showAnswer(isGood, text) {
  answer.dataset.state = isGood ? "good" : "bad";
  answer.textContent = text;
}

function toggleRoom(name) {
  const rooms = parseRooms(fields.rooms.value);
  const others = rooms.filter((room) => room !== name);
  fields.rooms.value = (others.length < rooms.length ? others : [...rooms, name]).join(", ");
  showForm();
}

async function copyCurl() {
  getSelection().selectAllChildren(curl);
  try {
    await navigator.clipboard.writeText(curl.textContent);
  } catch {
    // Over plain HTTP from another machine a browser has no clipboard object; the selection can still be copied.
    document.execCommand("copy");
  }
  copyButton.textContent = "Copied";
  setTimeout(() => (copyButton.textContent = "Copy"), COPIED_SHOWN_MS);
}
