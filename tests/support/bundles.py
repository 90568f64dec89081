"""The browser bundles of socket.io-clients (tests/clients/bundles), and a page that runs one of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from tests.support.browser import Browser, Page
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

_DIRECTORY = REPOSITORY / "tests" / "clients"
_FETCH_SECONDS = 300
#: The versions of the bundles, in their order.
VERSIONS = tuple(
    line.rpartition("/")[2].removesuffix(".js") for line in (_DIRECTORY / "bundles.sha256").read_text().splitlines()
)
#: Options of the client by the name of a transport; the first is the choice of the client itself.
TRANSPORTS: dict[str, dict[str, Any]] = {
    "default": {},
    "polling": {"transports": ["polling"]},
    "JSONP": {"transports": ["polling"], "forceJSONP": True},
    "WebSocket": {"transports": ["websocket"]},
}
#: `start` connects; each event is kept with its arguments, and acknowledged unless its name is "kept".
_SCRIPT = """
window.seen = [];
window.start = (url, options) => {
  window.socket = io(url, options);
  const receive = (name) => socket.on(name, (...args) => {
    const acknowledge = typeof args[args.length - 1] === "function" ? args.pop() : null;
    seen.push([name, ...args]);
    if (acknowledge && name !== "kept") acknowledge();
  });
  ["_settings", "_batch", "_resync", "news", "kept", "message"].forEach(receive);
  for (const name of ["connect", "disconnect", "error", "connect_error", "reconnect"])
    socket.on(name, (value) => seen.push([name, String(value)]));
};
window.handshakes = (since) => performance.getEntriesByType("resource").filter(({ name, startTime }) =>
  name.includes("transport=polling") && !name.includes("sid=") && startTime >= since).length;
"""


def fetch_bundles() -> None:
    """Fetch the bundles that are missing."""
    subprocess.run([_DIRECTORY / "fetch-bundles"], check=True, timeout=_FETCH_SECONDS)


class OldClient:
    """A page of Chromium with one client in it; the code that opens it calls `close`."""

    def __init__(self, browser: Browser, origin: str, version: str) -> None:
        """Open a page of `origin` and run the bundle in it."""
        self.page: Page = browser.open(f"{origin}/healthcheck")
        # As an element: JSONP of clients 1.0 to 1.3 adds its own in front of the first one of the page.
        for text in ((_DIRECTORY / "bundles" / f"{version}.js").read_text(), _SCRIPT):
            self.page.evaluate(
                f"document.head.append(Object.assign(document.createElement('script'), {{text: {json.dumps(text)}}}))"
            )

    def connect(self, url: str, options: Mapping[str, Any]) -> None:
        """Begin to connect; does not wait."""
        self.page.evaluate(f"start({json.dumps(url)}, {json.dumps(dict(options))})")

    def seen(self) -> list[list[Any]]:
        """List the events up to now: the name, then the arguments."""
        entries: list[list[Any]] = self.page.evaluate("seen")
        return entries

    def wait(self, name: str, nth: int = 1) -> list[Any]:
        """Wait for an event, and return its arguments."""

        def found() -> list[list[Any]]:
            return [entry for entry in self.seen() if entry[0] == name][nth - 1 :]

        try:
            return eventually(found, f"{name} number {nth}")[0][1:]
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {self.seen()}, {self.page.complaints()}") from None

    def wait_transport(self, name: str) -> None:
        """Wait until the client uses this transport."""
        eventually(lambda: self.page.evaluate("socket.io.engine.transport.name") == name, f"the transport {name}")

    def leave(self) -> None:
        """Go to another page, all written: JSONP of 1.0 and 1.1 recurses without end when it disconnects."""
        eventually(lambda: self.page.evaluate("socket.io.engine.writeBuffer.length === 0"), "the last acknowledgement")
        self.page.call("Page.navigate", url="about:blank")
        eventually(lambda: self.page.evaluate("typeof socket") == "undefined", "the page to be left")

    def disconnect(self) -> None:
        """Leave the server."""
        self.page.evaluate("socket.disconnect(); 0")
        self.wait("disconnect")

    def handshakes(self, newer_than_ms: int | None = None) -> int:
        """Count the sessions that the client opened by polling, ever or within this time."""
        since = "0" if newer_than_ms is None else f"performance.now() - {newer_than_ms}"
        return int(self.page.evaluate(f"handshakes({since})"))

    def close(self) -> None:
        """Close the page as a person does."""
        self.page.close()
