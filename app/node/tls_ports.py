"""The ports of a server that ends TLS itself: all of its ports behind one door, and the one that redirects to https."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from app.core.network import network_of
from app.node.port import BACKLOG
from app.node.redirect import Redirect
from app.node.tls_keeper import TlsKeeper
from app.transport.tls_door import DoorSettings, TlsDoor

#: Makes the protocol of one connection that an application serves.
NewProtocol = Callable[[], asyncio.Protocol]


class Listening(Protocol):
    """A server in the form of asyncio's, which uvicorn ends."""

    def close(self) -> None:
        """Accepts no more."""

    async def wait_closed(self) -> None:
        """Returns when nothing is left."""


class TlsPorts(Struct, frozen=True):
    """The certificate, the share of one address, and the socket of the redirect. Lives as long as the process."""

    keeper: TlsKeeper
    most_of_address: int
    redirect: socket.socket | None = None

    async def open(
        self, sockets: Sequence[socket.socket], new_protocol: NewProtocol, new_of: Callable[[Any], NewProtocol]
    ) -> list[Listening]:
        """Listens on the bound sockets. `new_of` makes the protocols of another application."""
        door = TlsDoor(lambda: self.keeper, DoorSettings(network_of, self.most_of_address), new_protocol)
        door.listen(sockets, BACKLOG)
        self.keeper.figures.handshakes = lambda: door.made
        if self.redirect is None:
            return [door]
        own_port = partial(_port_of, sockets[0])
        loop = asyncio.get_running_loop()
        redirecting = await loop.create_server(new_of(Redirect(own_port)), sock=self.redirect, backlog=BACKLOG)
        return [door, redirecting]


def _port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])
