"""The objects that all connections of one server share."""

import weakref
from typing import Any

from uvicorn.server import ServerState

from app.transport.outbox import TurnFlusher
from app.transport.parser import ParserPool


class ServerShare:
    """The flusher, the parsers and the set of connections of one server; lives as long as the server."""

    __slots__ = ("_parsers", "connections", "flusher")

    def __init__(self, connections: set[Any]) -> None:
        # uvicorn's own set: it counts these connections, and asks them to shut down.
        self.connections = connections
        self.flusher = TurnFlusher()
        self._parsers: dict[int, ParserPool] = {}

    def parsers_for(self, max_message_bytes: int) -> ParserPool:
        """Return the parsers that refuse bigger messages; there are as many pools as limits in use."""
        pool = self._parsers.get(max_message_bytes)
        if pool is None:
            pool = self._parsers[max_message_bytes] = ParserPool(max_message_bytes)
        return pool


_shares: weakref.WeakKeyDictionary[ServerState, ServerShare] = weakref.WeakKeyDictionary()


def share_of(server_state: ServerState) -> ServerShare:
    """Return the share of a server; the first call makes it."""
    share = _shares.get(server_state)
    if share is None:
        share = _shares[server_state] = ServerShare(server_state.connections)
    return share
