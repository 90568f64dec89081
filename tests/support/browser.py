"""Headless Chromium, driven over its DevTools protocol: finds elements by role and name, as a screen reader does, and
presses and types as a person does. Knows nothing of the page under test."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import tempfile
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.support.processes import ChildProcess
from tests.support.waiting import eventually

_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0
_LISTENING = "DevTools listening on "
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--log-level=3",
    "--remote-debugging-port=0",
)
#: The Tab key, named in each of the ways that the protocol wants.
_TAB = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}


class Browser:
    """One Chromium with an empty profile, for a whole module of tests. The code that starts it calls `end`."""

    def __init__(self) -> None:
        """Start Chromium; the command is `chromium`, as Debian names it."""
        self._profile = tempfile.mkdtemp(prefix="recado-chromium-")
        command = ["chromium", *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        # Its files for the length of its life go with the profile.
        self._process = ChildProcess("chromium", command, Path(self._profile), os.environ | {"TMPDIR": self._profile})
        try:
            line = self._process.lines.wait_for(lambda line: line.startswith(_LISTENING), "Chromium", _START_SECONDS)
        except AssertionError:
            self.end()
            raise
        self._address = line.removeprefix(_LISTENING)

    def open(self, url: str, *, blocked_url: str = "", width: int = 1280, height: int = 800) -> Page:
        """Open a page in a profile of its own, which blocks URLs that match `blocked_url`; the caller closes it."""
        page = Page(self._address)
        page.resize(width, height)
        if blocked_url:
            page.call("Network.enable")
            page.call("Network.setBlockedURLs", urls=[blocked_url])
        page.visit(url)
        return page

    def end(self) -> None:
        """End the browser and remove its profile."""
        self._process.end()
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """One tab; lives until `close`, which also closes its profile."""

    def __init__(self, address: str) -> None:
        """Open an empty tab in a new profile; `address` is the browser's."""
        self._resources = ExitStack()
        # Events wait unread between two calls, so the queue has no bound and there
        # are no pings, which would wait behind them.
        connection = connect(address, proxy=None, max_size=None, max_queue=None, ping_interval=None)
        self._socket = self._resources.enter_context(connection)
        self._ids = itertools.count(1)
        self._session: dict[str, str] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=10_000)
        self._context = self.call("Target.createBrowserContext")["browserContextId"]
        self._open_tab()

    def close(self) -> None:
        """Close the tab as a person does: its connections are closed."""
        self._session = {}
        self.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._resources.close()

    def visit(self, url: str) -> None:
        """Load a URL."""
        self.call("Page.navigate", url=url)
        eventually(lambda: self.evaluate("document.readyState") == "complete", f"{url} to load", _ANSWER_SECONDS)

    def kill(self) -> None:
        """Kill the process of the tab, whatever runs in it, and open an empty tab in the same profile."""
        self.call("Inspector.enable")
        self._socket.send(json.dumps({"id": next(self._ids), "method": "Page.crash", **self._session}))
        while json.loads(self._socket.recv(_ANSWER_SECONDS)).get("method") != "Inspector.targetCrashed":
            pass
        target, self._session = self._target, {}
        self.call("Target.closeTarget", targetId=target)
        self._open_tab()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; AssertionError with the browser's words if it fails."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **self._session}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(_ANSWER_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._events.append(message)

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, promises awaited, and return its value."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """List uncaught exceptions, failed loads and refusals of the Content-Security-Policy since the page opened."""
        self.evaluate("0")  # afterwards every earlier report has been read
        thrown = [_params(event)["exceptionDetails"] for event in self._events if _is(event, "Runtime.exceptionThrown")]
        logged = [_params(event)["entry"] for event in self._events if _is(event, "Log.entryAdded")]
        # Chromium requests an icon at any time, and the tests' pages have none.
        errors = [entry for entry in logged if entry["level"] == "error"]
        unasked = [entry for entry in errors if entry.get("url", "").endswith("/favicon.ico")]
        return [str(value) for value in thrown] + [str(entry) for entry in errors if entry not in unasked]

    def find(self, role: str, name: str, within: int | None = None) -> int:
        """Wait for the one visible element of this role and accessible name (inside `within`) and return its handle."""
        found: list[int] = eventually(lambda: self._query(role, name, within), f"{role} {name!r}")
        assert len(found) == 1, f"{len(found)} elements are a {role} named {name!r}"
        return found[0]

    def text(self, handle: int) -> str:
        """Return the element's text as it is shown, or its value."""
        return str(self._on(handle, "return this.value ?? this.innerText"))

    def wait_text(self, handle: int, expected: str) -> str:
        """Wait until the element's text contains `expected`; returns the whole text."""
        try:
            return eventually(lambda: text if expected in (text := self.text(handle)) else "", repr(expected))
        except AssertionError as error:
            raise AssertionError(f"{error}; the text is {self.text(handle)!r}") from None

    def click(self, handle: int) -> None:
        """Press the mouse in the middle of the element."""
        self.call("DOM.scrollIntoViewIfNeeded", backendNodeId=handle)
        corners = self.call("DOM.getBoxModel", backendNodeId=handle)["model"]["border"]
        place = {"x": sum(corners[0::2]) / 4, "y": sum(corners[1::2]) / 4, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def click_on(self, role: str, name: str, within: int | None = None) -> None:
        """Click the one element of this role and name; one that the page replaces meanwhile is found again."""

        def is_clicked() -> bool:
            try:
                self.click(self.find(role, name, within))
            except AssertionError as error:
                if not str(error).startswith(("DOM.getBoxModel", "DOM.scrollIntoViewIfNeeded")):
                    raise
                return False
            return True

        eventually(is_clicked, f"a click on the {role} {name!r}")

    def fill(self, handle: int, text: str) -> None:
        """Replace the field's content by typing."""
        self.call("DOM.focus", backendNodeId=handle)
        self._on(handle, "this.select()")
        self.call("Input.insertText", text=text)

    def paste(self, handle: int) -> None:
        """Replace the field's content by pasting the clipboard."""
        self.call("DOM.focus", backendNodeId=handle)
        self._on(handle, "this.select()")
        self.call("Input.dispatchKeyEvent", type="keyDown", key="v", code="KeyV", modifiers=2, commands=["paste"])

    def choose(self, handle: int, value: str) -> None:
        """Choose an option of a select."""
        self._on(handle, f"this.value = {json.dumps(value)}; this.dispatchEvent(new Event('input', {{bubbles: true}}))")

    def press_tab(self) -> None:
        """Press the Tab key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **_TAB)

    def focused(self) -> tuple[str, str]:
        """Return the role and the accessible name of the focused element."""
        element = self.call("Runtime.evaluate", expression="document.activeElement")["result"]["objectId"]
        node = self.call("Accessibility.getPartialAXTree", objectId=element, fetchRelatives=False)["nodes"][0]
        return node["role"]["value"], node["name"]["value"]

    def picture(self) -> bytes:
        """Return what the window shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def resize(self, width: int, height: int) -> None:
        """Give the window this size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def _open_tab(self) -> None:
        target = self.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._target: str = target
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def _query(self, role: str, name: str, within: int | None) -> list[int]:
        root = within or self.call("DOM.getDocument")["root"]["backendNodeId"]
        nodes = self.call("Accessibility.queryAXTree", backendNodeId=root, accessibleName=name, role=role)["nodes"]
        return [node["backendDOMNodeId"] for node in nodes if not node["ignored"]]

    def _on(self, handle: int, body: str) -> Any:
        element = self.call("DOM.resolveNode", backendNodeId=handle)["object"]["objectId"]
        function = f"function () {{ {body} }}"
        answer = self.call("Runtime.callFunctionOn", objectId=element, functionDeclaration=function, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")


def _is(event: dict[str, Any], method: str) -> bool:
    return event.get("method") == method


def _params(event: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = event["params"]
    return params
