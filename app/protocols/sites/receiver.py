"""One connection of a site: how the core writes to it, and how it ends. Knows the packets, and no admission."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.core.live import Measures
from app.core.message import LiveMessage
from app.protocols.handling import HandledClient
from app.socketio.device_receiver import DeviceReceiver
from app.socketio.engine_packet import EncodedPacket
from app.socketio.socket_connection import NamespaceConnection

#: The last event before the server closes a connection on purpose.
CLOSED = "_closed"
#: The reason of a close that the site's backend wants; its text is for the client alone.
KICKED = "ended by the backend"


class SiteReceiver(DeviceReceiver):
    """How the core writes to one connection of a site. Lives as long as the connection."""

    __slots__ = ("_client", "handled", "renewal", "rooms", "term", "token", "users", "watches")

    def __init__(self, link: NamespaceConnection, prefix: bytes, with_ack: bool) -> None:
        """`prefix` is `42/<site>,`; `with_ack` says whether messages ask for an ack."""
        super().__init__(link, prefix, with_ack)
        self._client = link
        #: Set where another protocol handles the client's events.
        self.handled: HandledClient | None = None
        #: Free for the application: the renewal of its tickets.
        self.renewal: Any = None
        #: All its rooms.
        self.rooms: Sequence[str] = ()
        #: The same: the `TokenTerm` of a client whose token the site has checked by itself.
        self.term: Any = None
        #: The user rooms and the token for the report of the disconnect; set only where the site wants this report.
        self.users: Sequence[str] = ()
        self.token: str | None = None
        #: The `Watches` of a client that has asked for users in rooms.
        self.watches: Any = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.connection is None

    def measures(self) -> Measures:
        """Measures it; its synchronisation is that of the protocol which handles its events, once there was one."""
        measured, sync_ms = super().measures(), self.handled.sync_ms if self.handled is not None else None
        return measured if sync_ms is None else msgspec.structs.replace(measured, sync_ms=sync_ms)

    def kick(self, text: str, *, comes_back: bool) -> None:
        """Tells the client the text and ends the connection; a client that is not to come back gets a DISCONNECT."""
        self._client.send_event(CLOSED, [{"reason": text}])
        if comes_back:
            self.close(KICKED)
        else:
            self._client.disconnect(reason=KICKED)

    def end(self, reason: str) -> None:
        """Tells the client the reason and closes the transport."""
        self._client.send_event(CLOSED, [{"reason": reason}])
        self.close(reason)


class PositionReceiver(SiteReceiver):
    """The same for a client that has asked for positions: the seq of each message follows its arguments, live and in
    `_batch`. A seq is given once, so a client can tell a repeat by it."""

    __slots__ = ()

    def encode(self, message: LiveMessage) -> EncodedPacket:
        """The packet of a message, with its position."""
        body = _positioned(message.seq, message.body)
        return EncodedPacket(b"%b%d%b" % (self._prefix, message.seq, body), message.is_first)

    def send_batch(self, batch_id: int, entries: Sequence[tuple[int, bytes]]) -> None:
        """Writes a `_batch` whose messages have their positions."""
        super().send_batch(batch_id, [(seq, _positioned(seq, body)) for seq, body in entries])


def _positioned(seq: int, body: bytes) -> bytes:
    return b"%b,%d]" % (body[:-1], seq)
