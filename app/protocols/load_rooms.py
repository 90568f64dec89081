"""The port of a load test over rooms: what a protocol with users and rooms of its own does for one."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class LoadSeats(Struct, frozen=True):
    """Simulated users and their room. Its repr has no password."""

    room: int
    #: The login and the password of each.
    logins: Sequence[tuple[str, str]]

    def __repr__(self) -> str:
        return f"LoadSeats({self.room})"


class LoadPlace(Struct, frozen=True):
    """A run in a room, and its name, which no other run has."""

    site: str
    room: int
    run: str


class LoadLimits(Struct, frozen=True):
    """The limits of a run, which the server holds whatever the clients send."""

    #: The messages of all clients.
    messages: int
    #: How long it takes messages, from the first one on; and how long it waits for that one.
    ms: int
    wait_ms: int


class LoadProgress(Struct, frozen=True):
    """How far a run has come."""

    messages: int
    #: The devices that have sent.
    devices: int
    #: States `delivered` that are stored.
    receipts: int


class LoadTimes(Struct, frozen=True):
    """The times of a run."""

    #: From the acceptance to the stored receipt: ms, and how often.
    delivery: Sequence[tuple[int, int]]
    #: From the request to its answer, as the clients tell: ms.
    store: Sequence[float]


class LoadRooms(Protocol):
    """The rooms of a node's sites. Each method raises RequestRefused, also while a store does not answer."""

    async def seat(self, site: str, users: int) -> LoadSeats:
        """Makes so many users and their room, or takes those of the run before, with new passwords."""

    async def listeners(self, site: str, room: int) -> int:
        """How many devices in the room are connected: no more will take part."""

    async def nodes(self, site: str) -> int:
        """How many nodes have connections of the site."""

    async def begin(self, place: LoadPlace, limits: LoadLimits) -> None:
        """The room takes messages of the run from now on, and keeps them apart from all others."""

    async def call(self, place: LoadPlace, messages: int) -> None:
        """Asks the clients in the room that take part for so many messages each; 0: for none any more."""

    async def end(self, place: LoadPlace) -> None:
        """The room takes no more messages of the run. Idempotent."""

    async def forget(self, place: LoadPlace) -> None:
        """Deletes the messages and receipts of the run, which has ended, in steps."""

    async def progress(self, place: LoadPlace) -> LoadProgress:
        """Counts what is stored."""

    async def times(self, place: LoadPlace, most: int) -> LoadTimes:
        """The times of at most so many messages."""
