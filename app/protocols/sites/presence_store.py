"""The port of presence: its needs of Redis, with the guarantees of the adapter."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site
from app.protocols.sites.room_picture import RoomSnapshot


class BeatAnswer(Struct, frozen=True):
    """The outcome of a beat."""

    #: Whether presence was off before it.
    was_off: bool
    #: The time until the grace of the next user ends; None: there is none.
    next_seconds: float | None


class PresentUsers:
    """The users of a room, and their connected devices. Lives for one request."""

    def __init__(self) -> None:
        #: User -> since when in ms.
        self.since: dict[str, int] = {}
        #: User -> handles of its connected devices. One may be added twice, when the room grows meanwhile.
        self.devices: dict[str, set[bytes]] = {}

    def add(self, user: str, since: int, handle: bytes) -> None:
        """Adds one device of a user; without a handle it is one that is away."""
        self.since[user] = since
        devices = self.devices.setdefault(user, set())
        if handle:
            devices.add(handle)


class PresenceStore(Protocol):
    """Users in rooms, over all nodes. Every method raises StoreUnavailable when it may not have happened, and may be
    repeated. Rooms are in lower case. The changes of watched rooms come over the bus, at most once each."""

    async def beat(self, site: Site) -> BeatAnswer:
        """Keeps presence on, and ends the grace of users whose time has come; turns it off where the site has none."""

    async def watch(self, site: Site, room: str) -> RoomSnapshot:
        """Has this node hear the changes of a room, and answers the room as it is. A later change has a greater
        version."""

    async def count(self, site: Site, room: str) -> tuple[int, int, bool]:
        """The version and the number of users of a watched room, and whether changes may be untold of: then it is to be
        asked again within some seconds."""

    async def unwatch(self, site: Site, rooms: Sequence[str]) -> None:
        """This node needs no changes of these rooms any more."""

    async def bury(self, site: Site, node: str) -> None:
        """A node has ended: nobody watches for it."""

    async def is_inside(self, site: Site, room: str, users: Sequence[str]) -> bool:
        """Whether one of these users is in a room that this node watches."""

    async def present_users(self, site: Site, room: str) -> PresentUsers:
        """The users of a room, watched or not, and their devices; in parts, so not atomic."""
