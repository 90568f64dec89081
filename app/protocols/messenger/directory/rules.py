"""The rules of the directory: who may change a user or a room, and to what. Plain code: the facts are given."""

from collections.abc import Collection
from typing import Any

from msgspec import Struct

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_MEMBERS

#: The members of a room of this kind are admins.
ADMINS = "admins"


class ChatDoer(Struct, frozen=True):
    """One who changes the directory: a user, an operator or the server."""

    #: As the history names it: `user:<id>`, `operator:<name>` or `server`.
    by: str
    #: None: no user, and nothing is forbidden.
    user_id: int | None = None
    #: Whether it is an admin: as the transaction of the change finds it.
    is_admin: bool = True

    def is_user(self, user_id: int) -> bool:
        """Whether it is this user."""
        return self.user_id == user_id


class RoomState(Struct, frozen=True):
    """A room with its members."""

    id: int
    name: str
    kind: str
    icon: str
    description: str
    object_type: str | None
    object_id: str | None
    has_history: bool
    has_receipts: bool | None
    is_archived: bool
    members: frozenset[int]
    admins: frozenset[int]
    #: The room at the site's backend: such a room is changed by nobody here.
    external: str | None = None

    @property
    def columns(self) -> dict[str, object]:
        """Its values beside the members."""
        names = ("name", "kind", "icon", "description", "object_type", "object_id", "has_history", "has_receipts")
        return {name: getattr(self, name) for name in names} | {"is_archived": self.is_archived}

    @property
    def shown(self) -> dict[str, object]:
        """The room as its members see it."""
        about = None if self.object_type is None else {"type": self.object_type, "id": self.object_id}
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "icon": self.icon,
            "description": self.description,
            "object": about,
            "history": self.has_history,
            "receipts": self.keeps_receipts,
            "archived": self.is_archived,
            "members": sorted(self.members),
            "admins": sorted(self.admins),
        }

    @property
    def keeps_receipts(self) -> bool:
        """Whether its messages have receipts."""
        return self.kind != "channel" if self.has_receipts is None else self.has_receipts

    @property
    def made_admins(self) -> frozenset[int]:
        """The users who are admins by being members."""
        return self.members if self.kind == ADMINS and not self.is_archived else frozenset()


def check_kind(doer: ChatDoer, kind: str) -> None:
    """Raises ChatRefusal for a room that the doer may not have: a room of admins is for admins to make."""
    if kind == ADMINS and not doer.is_admin:
        raise ChatRefusal("not_admin", "Only admins make or change rooms of admins.")


def check_room_change(doer: ChatDoer, room: RoomState | None) -> RoomState:
    """The room, which the doer may change. Raises ChatRefusal. A room that the doer does not see is unknown to it."""
    if room is None:
        raise ChatRefusal("unknown_room", "Expected the id of a room.")
    if doer.is_admin:
        return _own(room)
    if doer.user_id not in room.members:
        raise ChatRefusal("not_member", "This is for members of the room.")
    _own(room)
    if doer.user_id not in room.admins:
        raise ChatRefusal("not_admin", "This is for admins of the room.")
    check_kind(doer, room.kind)
    return room


def check_leaving(doer: ChatDoer, room: RoomState | None) -> RoomState:
    """The room, of which the doer is a member. Raises ChatRefusal."""
    if room is None:
        raise ChatRefusal("unknown_room", "Expected the id of a room.")
    if doer.user_id not in room.members:
        raise ChatRefusal("not_member", "This is for members of the room.")
    return _own(room)


def _own(room: RoomState) -> RoomState:
    if room.external is not None:
        raise ChatRefusal("of_backend", "The room is one of the site's backend, which alone changes it.")
    return room


def check_members(members: Collection[int], admins: Collection[int]) -> None:
    """Raises ChatRefusal for lists that no room has."""
    if len(members) > MAX_MEMBERS:
        raise ChatRefusal("too_many", f"Expected at most {MAX_MEMBERS} members.")
    if not set(admins) <= set(members):
        raise ChatRefusal("bad_request", "admins: expected members.")


def heir_of(room: RoomState, leaver: int) -> int | None:
    """The member that becomes the admin of a room whose last admin leaves: the one with the lowest id."""
    rest = room.members - {leaver}
    if room.admins - {leaver} or not rest or leaver not in room.admins:
        return None
    return min(rest)


def contact_shown(other: int, name: str | None, is_muted: bool, is_blocked: bool) -> dict[str, Any]:
    """A contact as its owner sees it."""
    return {"user": other, "name": name, "muted": is_muted, "blocked": is_blocked}


def registration_shown(id: int, login: str, name: str, at: int, state: str) -> dict[str, Any]:
    """A registration as its deciders see it."""
    return {"id": id, "login": login, "name": name, "at": at, "state": state}
