"""The ports for passing requests on to other nodes. The adapters are in `store` and `backends`."""

from typing import Any, Protocol

from msgspec import Struct


class Place(Struct, frozen=True):
    """The address at which a node takes requests from other nodes. It stays the same for the node's life."""

    #: The path of its unix socket; None on other machines, which cannot reach it.
    socket: str | None = None
    #: Its URL for nodes on other machines, without a path; None when it has none.
    url: str | None = None


class NodePlaces(Protocol):
    """The places of all nodes."""

    async def find(self, node: str) -> Place | None:
        """The place of a node; None when no node of this name lives. Never raises; the place may be out of date."""

    def forget(self, node: str) -> None:
        """Drops a remembered place at which no node listens any more."""


class Peers(Protocol):
    """The other nodes, as targets of the HTTP requests that this node passes on."""

    async def pass_on(self, place: Place, scope: Any, receive: Any, send: Any) -> bool:
        """Passes an ASGI request on to the node at `place` and sends that node's answer to the client. Returns False
        when there was no answer; then nothing has been sent. Returns True otherwise, also when the client has left.

        When the client leaves, the request to the other node is cancelled too. May last as long as a poll.
        """

    async def tell(self, place: Place, scope: Any) -> None:
        """Sends a request of this node's own, without a body, to the node at `place`. An answer is ignored. Never
        raises."""
