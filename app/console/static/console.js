/** What the pages do in the browser: live parts that keep the reader's place, charts, times in the reader's zone. */

"use strict";

/** The live part of the open page; lives until htmx brings another page, or the tab is left. */
class Live {
  #source = null;
  #held = "";
  #isPaused = false;

  /** @param {HTMLElement} part the element that the server renders again and again */
  constructor(part) {
    this.part = part;
    this.tools = document.createElement("p");
    this.tools.className = "live-tools";
    this.pause = this.#button("Pause", () => this.#togglePause());
    this.more = this.#button("", () => this.#show(this.#held, true));
    this.more.hidden = true;
    part.before(this.tools);
    this.open();
  }

  /** Begins to listen. A tab that nobody sees does not. */
  open() {
    if (this.#source || document.hidden || !this.part.isConnected) {
      return;
    }
    this.#source = new EventSource(this.part.dataset.live);
    this.#source.addEventListener("live", (event) => this.#show(JSON.parse(event.data), false));
    this.#source.addEventListener("over", () => location.reload());
    this.#source.addEventListener("error", () => this.#tellLost());
  }

  /** Ends the stream. */
  close() {
    this.#source?.close();
    this.#source = null;
  }

  /** The browser tries again by itself, unless it was answered something else than a stream. */
  #tellLost() {
    if (this.#source?.readyState === EventSource.CLOSED) {
      this.pause.disabled = true;
      this.pause.textContent = "Not live: load the page again";
    }
  }

  #button(text, press) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = text;
    button.addEventListener("click", press);
    this.tools.append(button);
    return button;
  }

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    this.pause.textContent = this.#isPaused ? "Go on" : "Pause";
    if (!this.#isPaused && this.#held) {
      this.#show(this.#held, true);
    }
  }

  #show(html, isWanted) {
    this.#held = html;
    if (this.#isPaused && !isWanted) {
      return;
    }
    const next = new DOMParser().parseFromString(html, "text/html").body;
    const added = renew(this.part, next, isWanted);
    this.more.hidden = added === 0;
    this.more.textContent = `Show ${added} new`;
    dress(this.part);
  }
}

/**
 * Brings an element to the state of another. Rows are told apart by their ids, and so are the parts
 * beside them with `data-part`. New rows wait while somebody reads below them; nothing changes under the keyboard's focus or in a selection.
 * @returns {number} how many rows wait
 */
function renew(part, next, isWanted) {
  const rows = part.querySelector("tbody[data-rows]");
  const nextRows = next.querySelector("tbody[data-rows]");
  if (!rows || !nextRows) {
    if (!isInUse(part) && part.innerHTML !== next.innerHTML) {
      part.replaceChildren(...next.childNodes);
    }
    return 0;
  }
  for (const fresh of next.querySelectorAll("[data-part]")) {
    const old = part.querySelector(`#${CSS.escape(fresh.id)}`);
    if (old && !isInUse(old) && old.innerHTML !== fresh.innerHTML) {
      old.replaceChildren(...fresh.childNodes);
    }
  }
  const isReading = !isWanted && (rows.getBoundingClientRect().top < 0 || isInUse(rows));
  const known = new Map([...rows.children].map((row) => [row.id, row]));
  let waiting = 0;
  let place = rows.firstElementChild;
  for (const row of [...nextRows.children]) {
    const old = known.get(row.id);
    if (!old && isReading) {
      waiting += 1;
    } else if (!old) {
      row.classList.toggle("new", !isWanted);
      rows.insertBefore(row, place);
    } else {
      if (!isInUse(old) && old.innerHTML !== row.innerHTML) {
        old.replaceChildren(...row.childNodes);
      }
      place = old.nextElementSibling;
    }
    known.delete(row.id);
  }
  if (!isReading) {
    known.forEach((row) => row.remove());
  }
  return waiting;
}

function isInUse(element) {
  const selection = getSelection();
  const isSelected = selection && !selection.isCollapsed && selection.containsNode(element, true);
  const isOpen = element.querySelector("details[open]") !== null;
  return isSelected || isOpen || element.contains(document.activeElement);
}

/** Charts and times of an element that has just come. */
function dress(element) {
  for (const time of element.querySelectorAll("time:not([title])")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
  element.querySelectorAll("[data-chart]").forEach(draw);
}

function draw(element) {
  if (!window.uPlot || element.firstElementChild) {
    return;
  }
  const { x, series } = JSON.parse(element.dataset.chart);
  const colors = ["--accent", "--own", "--wait", "--bad", "--good"];
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") } };
  const lines = series.map(({ label }, i) => ({ label, stroke: color(colors[i % colors.length]), width: 1.5 }));
  const size = { width: element.clientWidth || 400, height: 180 };
  const options = { ...size, series: [{}, ...lines], axes: [axis, { ...axis, size: 60 }], legend: { live: false } };
  new uPlot(options, [x, ...series.map(({ values }) => values)], element);
}

let live = null;

function begin() {
  live?.close();
  live = null;
  dress(document.body);
  const part = document.querySelector("[data-live]");
  if (part) {
    live = new Live(part);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("#menu-button");
  button?.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") === "false"));
});
document.addEventListener("DOMContentLoaded", begin);
document.addEventListener("htmx:afterSettle", begin);
document.addEventListener("visibilitychange", () => (document.hidden ? live?.close() : live?.open()));
// A stream that stays open would keep the browser from showing the page again as it was.
addEventListener("pagehide", () => live?.close());
addEventListener("pageshow", () => live?.open());
// An action may end what the stream shows: its end would load this page again, in place of the answer.
addEventListener("submit", (event) => event.target.method === "post" && live?.close(), true);
// An empty field of a filter is no part of the address. Before htmx reads the form.
addEventListener(
  "submit",
  (event) => {
    if (event.target.matches("[data-filter]")) {
      event.target.querySelectorAll("input, select").forEach((field) => (field.disabled = field.value === ""));
    }
  },
  true,
);
