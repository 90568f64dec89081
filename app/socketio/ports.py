"""What passing requests on to other nodes needs of the outside. The adapters are in `store` and `backends`."""

from typing import Any, Protocol

from msgspec import Struct


class Place(Struct, frozen=True):
    """Where a node takes requests that other nodes pass on to it. A node has one place for as long as it lives."""

    #: The path of its unix socket; other machines cannot reach it, and see None.
    socket: str | None = None
    #: Its URL for nodes on other machines, without a path; None when it has none.
    url: str | None = None


class NodePlaces(Protocol):
    """The places of all nodes."""

    async def find(self, node: str) -> Place | None:
        """The place of a node, None when no node of this name lives. Never raises; the place may be out of date."""

    def forget(self, node: str) -> None:
        """Nobody listens at the node's place any more."""


class Peers(Protocol):
    """The other nodes, as far as this one passes HTTP requests on to them."""

    async def pass_on(self, place: Place, scope: Any, receive: Any, send: Any) -> bool:
        """Has the node at `place` answer an ASGI request and sends its answer. True also when the client has left.

        False: there was no answer, and nothing has been sent. When the client leaves, the request is taken back at the
        other node too. May last as long as a poll.
        """

    async def tell(self, place: Place, scope: Any) -> None:
        """Gives the node at `place` a request of this node's own, without a body. The answer, if there is one, is
        ignored. Never raises."""
