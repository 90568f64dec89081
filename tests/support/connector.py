"""Opens clients of any kind against one deployment and closes them all when the test ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.clients import ACK_ALL, MODERN, AckPolicy, Client, ClientKind, ConnectCall, Event
from tests.support.endpoint import Endpoint
from tests.support.node_clients import NodeClients
from tests.support.python_clients import PythonClients
from tests.support.tenant import User


@dataclass(frozen=True)
class Drivers:
    """The client libraries in their two processes. Live for the test session."""

    node: NodeClients
    python: PythonClients


class Connector:
    """Opens clients for one test; `close` ends every client it opened."""

    def __init__(self, deployment: Endpoint, drivers: Drivers) -> None:
        """Prepare to open clients against this deployment."""
        self.deployment = deployment
        self.drivers = drivers
        self._opened: list[Client] = []
        self._fences = itertools.count()

    def __call__(
        self, site: str, user: User, kind: ClientKind = MODERN, device: str = "d1", ack: AckPolicy = ACK_ALL
    ) -> Client:
        """Connect a device of the user with its credentials in the page's URL; returns after `_settings`."""
        client = self.begin(self.call(site, user, kind, device, ack))
        client.wait_connected()
        client.wait_event("_settings")
        return client

    def call(
        self, site: str, user: User, kind: ClientKind = MODERN, device: str = "d1", ack: AckPolicy = ACK_ALL
    ) -> ConnectCall:
        """The options of `__call__`, for a test that changes some of them."""
        query = {"token": user.token, "deviceId": device}
        return ConnectCall(kind, self.deployment.url, site, query, ack=ack)

    def begin(self, call: ConnectCall) -> Client:
        """Begin to connect; does not wait."""
        client = (self.drivers.python if call.kind.library == "python" else self.drivers.node).connect(call)
        self._opened.append(client)
        return client

    def share(self, client: Client, call: ConnectCall) -> Client:
        """Begin to connect one more namespace over the transport of `client`, a Node client; does not wait."""
        return self.drivers.node.share(client, call)

    def fence(self, site: str, room: str, *clients: Client) -> None:
        """Send one more event and wait until every client has it: earlier
        messages have arrived by then, or never will."""
        event = f"fence-{next(self._fences)}"
        self.deployment.send(site, room, event)
        for client in clients:
            client.wait_event(event)

    def close(self) -> None:
        """End every client."""
        for client in self._opened:
            client.forget()


def without_fences(client: Client) -> list[str]:
    """List the names of the client's events in order, without `_settings` and the fences."""
    return [name for name in client.names() if not name.startswith("fence-")]


def batch_names(batch: Event) -> list[str]:
    """List the names of the events in a `_batch`, without the fences."""
    entries: Sequence[Sequence[str]] = batch.args[0]
    return [entry[0] for entry in entries if not entry[0].startswith("fence-")]


def numbers(client: Client) -> list[object]:
    """List the first arguments of the client's `n` events, live and in batches, in the order of arrival."""
    found: list[object] = []
    for event in client.events():
        entries = event.args[0] if event.name == "_batch" else [[event.name, *event.args]]
        found += [entry[1] for entry in entries if entry[0] == "n"]
    return found
