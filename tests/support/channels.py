"""Clients of the protocol `channels` from outside this project: `websockets` from PyPI, and httpx."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.support.endpoint import Endpoint
from tests.support.tenant import SECRET
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS

KEY = f"{SECRET}-channels-key"


class Subscription:
    """A subscriber's WebSocket. The code that opens it calls `close`, or uses it in a `with`."""

    def __init__(self, url: str, site: str | None, origin: str | None = None, **query: str) -> None:
        """Connect to a site's channels at a node (None: at the original's path), and read the first CLIENT_ACK."""
        path = "/" if site is None else f"/channels/{site}"
        address = url.replace("http", "ws", 1) + path + (f"?{urlencode(query)}" if query else "")
        self._resources = ExitStack()
        opening = connect(address, max_size=None, compression=None, origin=Origin(origin) if origin else None)
        self.socket: ClientConnection = self._resources.enter_context(opening)
        self.ack = self.receive()
        #: None: the server refused the subscriber.
        self.uuid: str | None = self.ack["data"].get("uuid")

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the WebSocket as a client does."""
        self._resources.close()

    def vanish(self) -> None:
        """Lose the connection as a phone does: the server gets no close frame."""
        self.socket.close_socket()

    def arrived(self) -> list[tuple[str, str]]:
        """The pushes that had arrived before the connection was lost: the library has answered the pings behind them,
        whether or not they were read."""
        found: list[tuple[str, str]] = []
        with suppress(ConnectionClosed):
            while True:
                found += self.pushed()
        return found

    def receive(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(self.socket.recv(timeout_seconds))
        return message

    def send(self, message: object) -> None:
        """Send anything as JSON."""
        self.socket.send(json.dumps(message))

    def act(self, action: str, channel: str, **more: Any) -> dict[str, Any]:
        """Send SUBSCRIBE or UNSUBSCRIBE; return the next message."""
        self.send({"messageType": "CLIENT_ACTION", "action": action, "data": {"channel": channel}, **more})
        return self.receive()

    def subscribe(self, *channels: str) -> Subscription:
        """Subscribe to channels that exist."""
        for channel in channels:
            ack = self.act("SUBSCRIBE", channel)
            assert ack["messageType"] == "CLIENT_ACK", ack
            assert channel in ack["data"]["subscribedChannels"]
        return self

    def pushed(self, count: int = 1) -> list[tuple[str, str]]:
        """The next pushes: (channel, message)."""
        found = []
        for _ in range(count):
            push = self.receive()
            assert push["messageType"] == "CLIENT_PUSH", push
            found.append((push["data"]["pushMessage"]["channel"], push["data"]["pushMessage"]["message"]))
        return found

    def closed(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> tuple[int, str]:
        """Read until the server closes the connection; return its code and reason."""
        try:
            while True:
                self.socket.recv(timeout_seconds)
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


class Publisher:
    """A publisher of one site, over any endpoint. Lives as long as the test."""

    def __init__(self, endpoint: Endpoint, site: str | None) -> None:
        """`site` None: use the paths of the original."""
        self._endpoint = endpoint
        self._base = "" if site is None else f"/channels/{site}"
        self.tokens: dict[str, str] = {}

    def post(self, path: str, action: str, data: object, **options: Any) -> httpx.Response:
        """POST an action; `options` are those of httpx."""
        body = {"messageType": "SERVER_ACTION", "action": action, "data": data}
        return self._endpoint.post(f"{self._base}{path}", json=body, **options)

    def create(self, channel: str) -> str:
        """Create a channel with the site's key; return its token."""
        answer = self.post("/channel/create", "CREATE_CHANNEL", {"channel": channel}, headers={"X-API-Key": KEY})
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["data"]["channelToken"]
        self.tokens[channel] = token
        return token

    def push(self, channel: str, message: str, *recipients: str | None, token: str | None = None) -> httpx.Response:
        """Push to all subscribers, or only to these recipients."""
        data = {
            "channel": channel,
            "channelToken": token or self.tokens[channel],
            "recipients": list(recipients),
            "message": message,
        }
        return self.post("/push", "PUSH_MESSAGE", data)

    def delete(self, channel: str, token: str | None = None) -> httpx.Response:
        """Delete a channel."""
        data = {"channel": channel, "channelToken": token or self.tokens[channel]}
        return self.post("/channel/delete", "DELETE_CHANNEL", data)

    def ping(self, channel: str, token: str | None) -> httpx.Response:
        """Ping a channel."""
        return self.post("/channel/ping", "PING_CHANNEL", {"channel": channel, "channelToken": token})


def channels_site(**settings: Any) -> dict[str, Any]:
    """A site with channels and nothing else, as sites.yml writes it."""
    return {"apiKey": KEY, "channels": {}, **settings}
