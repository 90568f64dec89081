"""Which application a namespace's client belongs to, where a server has more than the sites' own.

A namespace may belong to one of them, or to both: then a client that brings a token, or a ticket
in its place, is the sites'.
"""

from __future__ import annotations

from typing import Any

from app.protocols.sites.admission import credentials_of
from app.socketio.socket_server import ConnectRequest, NamespaceConnection, SocketApplication


class NamespaceRouter:
    """The application of a server with two; lives as long as the server."""

    def __init__(self, sites: SocketApplication, other: SocketApplication) -> None:
        """Who has a token or ticket, and a namespace of `sites`, is theirs; others, with one of `other`, are that's."""
        self._sites = sites
        self._other = other

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether either has it."""
        return self._sites.accepts_namespace(namespace) or self._other.accepts_namespace(namespace)

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Chooses, and remembers."""
        connection.application = application = self._choose(request)
        await application.connect(connection, request)

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """To whose client it is."""
        if connection.application is not None:
            connection.application.event_received(connection, event, args, ack_id)

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """To whose client it is."""
        if connection.application is not None:
            connection.application.ack_received(connection, ack_id)

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """To whose client it was."""
        if connection.application is not None:
            connection.application.disconnected(connection, reason)

    def _choose(self, request: ConnectRequest) -> SocketApplication:
        if not self._other.accepts_namespace(request.namespace):
            return self._sites
        credentials = credentials_of(request)
        if self._sites.accepts_namespace(request.namespace) and (credentials.token or credentials.ticket):
            return self._sites
        return self._other
