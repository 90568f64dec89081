"""Engine.IO without a client library, for details that no library shows: the packets as they are on the wire."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.endpoint import Endpoint
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS


class RawSocket:
    """A websocket session without a library; use it in a `with`."""

    def __init__(self, base_url: str, version: int, query: dict[str, str] | None = None) -> None:
        """Describe a session of Engine.IO `version`."""
        parameters = urlencode({"EIO": str(version), "transport": "websocket", **(query or {})})
        url = base_url.replace("http", "ws", 1) + f"/socket.io/?{parameters}"
        self._opening = connect(url, max_size=None, compression=None)

    def __enter__(self) -> RawSocket:
        """Open the session."""
        self._connection: ClientConnection = self._opening.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self._opening.__exit__(None, None, None)

    def send(self, packet: str | bytes) -> None:
        """Send one message: text or binary."""
        self._connection.send(packet)

    def receive(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> str:
        """Return the next text message that is neither ping nor pong; answer Engine.IO 4's pings."""
        while True:
            packet = self._connection.recv(timeout_seconds)
            assert isinstance(packet, str), "a binary message"
            if packet == "2":
                self.send("3")
            elif packet != "3":
                return packet


class RawPolling:
    """A polling session without a library."""

    def __init__(self, deployment: Endpoint, version: int, query: dict[str, str] | None = None) -> None:
        """Make the session's parameters; nothing is sent yet."""
        self._deployment = deployment
        self._query: dict[str, str] = {"EIO": str(version), "transport": "polling", **(query or {})}

    def poll(self) -> httpx.Response:
        """GET the waiting packets; the sid of the first answer is used from then on."""
        answer = self._deployment.get("/socket.io/", params=self._query)
        if found := re.search(rb'"sid\\?":\\?"([^"\\]+)', answer.content):
            self._query.setdefault("sid", found[1].decode())
        return answer

    def post(self, body: bytes, content_type: str = "text/plain;charset=UTF-8") -> httpx.Response:
        """POST a payload."""
        headers = {"Content-Type": content_type}
        return self._deployment.post("/socket.io/", params=self._query, content=body, headers=headers)

    def poll_until(self, needle: bytes) -> bytes:
        """Poll until the answers contain `needle`, and return all of them."""
        received = b""
        for _ in range(20):
            received += self.poll().content
            if needle in received:
                return received
        raise AssertionError(f"{needle!r} not in {received[:1000]!r}")
