"""Who may join a site: what a client brings, what the site's backend says of it, and whether there is room for it.

Knows the contract's texts; neither sockets nor what happens to those who are let in.
"""

from collections.abc import Sequence

import structlog
from msgspec import Struct

from app.core.address import user_rooms
from app.core.limits import Limits, Seat
from app.core.ports import RoomDirectory
from app.errors import AuthRefused, LimitReached
from app.protocols.sites.socket_server import ConnectRefused, ConnectRequest
from app.settings import Site

MISSING_USER_ROOM = "User is missing a private room"

_log = structlog.get_logger(__name__)


class Refused(ConnectRefused):
    """Connection refused"""

    def __init__(self, message: str | None = None, result: str = "refused") -> None:
        super().__init__(message)
        #: As the metric `recado_connects` calls it.
        self.result = result


class Guest(Struct, frozen=True):
    """Who was let in. Lives until it is registered; its seat is given back with `Admission.leave` on every path."""

    device_id: str
    token: str | None
    rooms: Sequence[str]
    #: The user rooms among them.
    users: Sequence[str]
    seat: Seat

    def __repr__(self) -> str:
        return f"Guest({self.device_id!r})"


class Admission:
    """The door of all sites on one node. Lives as long as the server."""

    def __init__(self, directory: RoomDirectory, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits

    async def admit(self, site: Site, request: ConnectRequest) -> Guest:
        """Lets a client in, or raises Refused with the text for it, or StoreUnavailable. May be cancelled."""
        if site.origins is not None and request.origin is not None and request.origin not in site.origins:
            raise Refused("Origin not allowed", "origin")
        credentials = credentials_of(request)
        token = credentials.get("token")
        try:
            rooms = await self._directory.fetch_rooms(site, token, credentials.get("meta"))
        except AuthRefused as refusal:
            raise Refused(str(refusal)) from None
        users = user_rooms(site, rooms)
        if site.has_queues and not users:
            raise Refused(MISSING_USER_ROOM, "no user room")
        # Last, so that those whom nobody knows take no seat from others, and that behind it nothing can fail.
        private = [room for room in users if room != site.public_channel]
        try:
            seat = await self._limits.connect(site, request.client_address, private, len(rooms))
        except LimitReached as reached:
            raise Refused(str(reached), "limited") from None
        return Guest(credentials.get("deviceId", ""), token, rooms, users, seat)

    def leave(self, seat: Seat) -> None:
        """Gives a guest's seat back. Idempotent."""
        self._limits.disconnect(seat)


def credentials_of(request: ConnectRequest) -> dict[str, str]:
    """token, deviceId and meta as text; the CONNECT payload wins over its query, that over the handshake's."""
    found: dict[str, str] = {}
    for source in (request.auth or {}, request.packet_query, request.handshake_query):
        for name in ("token", "deviceId", "meta"):
            value = source.get(name)
            if name not in found and isinstance(value, str | int | float):
                found[name] = value if isinstance(value, str) else str(value)
    return found
