"""The applications of one Socket.IO server, and the choice of the one that serves a client. Knows none of them."""

from __future__ import annotations

from collections.abc import Sequence

from app.socketio.socket_connection import ConnectRequest, SocketApplication


class NamespaceRouter:
    """The applications in the order in which they are asked; lives as long as the server."""

    def __init__(self, applications: Sequence[SocketApplication]) -> None:
        """Several applications may serve one namespace: list one that claims every client behind the others."""
        self._applications = tuple(applications)

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether any application serves the namespace."""
        return any(application.accepts_namespace(namespace) for application in self._applications)

    def choose(self, request: ConnectRequest) -> SocketApplication:
        """Return the application of a client that joins an accepted namespace.

        A namespace with one application needs no claim. Of several the first that claims the client gets it; a client
        that none claims goes to the last.
        """
        namespace = request.namespace
        *asked, last = [application for application in self._applications if application.accepts_namespace(namespace)]
        return next((application for application in asked if application.claims(request)), last)
