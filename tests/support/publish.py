"""An application that PUBLISHes through redis-py, and its users' socket.io-clients, which send `identifier`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import redis

from tests.support.clients import ACK_NONE, MODERN, AckPolicy, Client, ClientKind, ConnectCall
from tests.support.connector import Drivers
from tests.support.endpoint import Endpoint
from tests.support.tenant import SECRET
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS, eventually

_numbers = itertools.count(1)


class Application:
    """The website behind a site with `redisPublish:`. Lives for one test; `close` ends the clients it opened."""

    def __init__(self, client: redis.Redis, drivers: Drivers, site: str, prefix: str) -> None:
        """`client` is the application's own connection to its Redis."""
        self.redis: Any = client
        self.site = site
        self.prefix = prefix
        self._drivers = drivers
        self._opened: list[Client] = []

    def user(self, has_key: bool = True) -> str:
        """A user of this test only, with a key that contains a `:`."""
        user = f"u{next(_numbers)}"
        if has_key:
            self.redis.set(f"{self.prefix}:users:{user}:key", self.key(user))
        return user

    def key(self, user: str) -> str:
        """The key that the user's client presents."""
        return f"{SECRET}:{user}:key"

    def publish(self, user: str, payload: str | bytes) -> int:
        """PUBLISH to one user; return how many of Redis's clients heard it."""
        return int(self.redis.publish(f"{self.prefix}.users.{user}", payload))

    def publish_to_channel(self, channel: str, payload: str) -> int:
        """PUBLISH to a channel."""
        return int(self.redis.publish(f"{self.prefix}.channels.{channel}", payload))

    def subscribe(self, channel: str, *users: str) -> None:
        """Add users to a channel."""
        self.redis.sadd(f"{self.prefix}:channels:{channel}:subscribers", *users)

    def add(self, user: str, payload: str, **fields: str) -> None:
        """XADD for one user."""
        self.redis.xadd(f"{self.prefix}.stream", {"to": f"users.{user}", "payload": payload, **fields})

    def waiting(self, user: str) -> list[dict[str, Any]]:
        """The messages that wait for a user, as an application reads them."""
        return [json.loads(entry) for entry in self.redis.lrange(f"{self.prefix}:users:{user}:messages", 0, -1)]

    def wait_queued(self, user: str, *payloads: str) -> list[dict[str, Any]]:
        """Wait until exactly these messages wait."""

        def as_expected() -> list[dict[str, Any]] | None:
            entries = self.waiting(user)
            return entries if [entry["payload"] for entry in entries] == list(payloads) else None

        eventually(lambda: as_expected() is not None, f"just {len(payloads)} messages to wait for {user}")
        return self.waiting(user)

    def wait_received(self, user: str) -> None:
        """Wait until the server knows that a client of the user has everything: the rest waits again when it leaves."""
        told = f"recado:{{{self.prefix}:users:{user}:messages}}:told"
        eventually(lambda: not self.waiting(user) and self.redis.llen(told) == 0, "the receipt of the last message")

    def join(
        self,
        server: Endpoint,
        kind: ClientKind = MODERN,
        ack: AckPolicy = ACK_NONE,
        namespace: str | None = None,
        reconnects: bool = False,
        waits: bool = True,
    ) -> Client:
        """A client that has joined the site's namespace, or tries to, and has not identified itself."""
        call = ConnectCall(kind, server.url, namespace or self.site, ack=ack, reconnects=reconnects)
        client = self._drivers.node.connect(call)
        self._opened.append(client)
        if waits:
            client.wait_connected()
        return client

    def identify(self, client: Client, identifier: Any) -> None:
        """Emit `identifier`."""
        self._drivers.node.emit(client, "identifier", identifier)

    def connect(
        self, server: Endpoint, user: str, kind: ClientKind = MODERN, ack: AckPolicy = ACK_NONE, is_empty: bool = True
    ) -> Client:
        """A client of the user that is live; `is_empty`: no message waits for the user."""
        client = self.join(server, kind, ack)
        known = self.connections(user)
        self.identify(client, f"{user}:{self.key(user)}")
        if is_empty:
            eventually(
                lambda: self.states(user).count("l") > 0 and self.connections(user) > known, f"{user} to be live"
            )
        return client

    def connections(self, user: str) -> int:
        """How many connections of the user are recorded in Redis."""
        return int(self.redis.hlen(f"recado:{{{self.prefix}:users:{user}:messages}}:connections"))

    def states(self, user: str) -> list[str]:
        """The state of each connection: fetching (f) or live (l)."""
        states = self.redis.hvals(f"recado:{{{self.prefix}:users:{user}:messages}}:connections")
        return [state.decode()[-1] for state in states]

    def drop(self, client: Client) -> None:
        """Cut the client's WebSocket without a close frame."""
        self._drivers.node.drop(client)

    def close(self) -> None:
        """Close the clients."""
        for client in self._opened:
            client.forget()


def messages(client: Client) -> list[dict[str, Any]]:
    """The messages that a client has received, in order."""
    return [event.args[0] for event in client.events() if event.name == "message"]


def payloads(client: Client) -> list[str]:
    """The payloads of these messages."""
    return [message["payload"] for message in messages(client)]


def wait_payloads(client: Client, expected: Sequence[str], timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
    """Wait until a client has this many messages, and check that they are the expected ones."""
    client.records.wait_until(
        lambda _: len(_events(client)) >= len(expected), f"{len(expected)} messages at {client!r}", timeout_seconds
    )
    assert payloads(client) == list(expected)


def _events(client: Client) -> list[Any]:
    return [record for record in client.records._items if record.details.get("event") == "message"]
