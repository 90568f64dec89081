"""The news of one change of the directory: what others are to be told once it has committed. Plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class ChatNews:
    """The things that one transaction has changed. Lives as long as the transaction."""

    def __init__(self) -> None:
        self.users: set[int] = set()
        self.rooms: set[int] = set()
        #: The users who are no members any more, by room.
        self.lost: dict[int, set[int]] = {}
        #: The users of which contacts have changed, by the owner of the contacts.
        self.contacts: dict[int, set[int]] = {}
        #: The devices that have changed, by their user.
        self.devices: dict[int, set[int]] = {}
        #: The registrations that have changed, for the members of the room that decides on them.
        self.registrations: set[int] = set()
        #: Whether the core has to hear of members.
        self.has_moves = False

    def note_room(self, room: int, before: frozenset[int], after: frozenset[int]) -> None:
        """A room has changed, and these were and are its members."""
        self.rooms.add(room)
        self.lost.setdefault(room, set()).update(before - after)
        self.lost[room] -= after
        self.has_moves = self.has_moves or before != after


class Tiding(Struct, frozen=True):
    """An event of `directory` for some users."""

    data: Mapping[str, Sequence[Any]]
    #: None: all users of the site.
    to: frozenset[int] | None = None
