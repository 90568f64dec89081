"""The rules of conversations: to whom one may write, what may be changed and by whom, who has to hear of it.

Plain code: the facts are given.
"""

from collections.abc import Sequence

from msgspec import Struct

from app.protocols.messenger.answers import ChatRefusal

CHANNEL = "channel"


class ChatTarget(Struct, frozen=True):
    """A conversation: with one user, or in a room."""

    user: int | None = None
    room: int | None = None

    @property
    def shown(self) -> dict[str, int | None]:
        """`to` as clients send and get it."""
        return {"user": self.user} if self.user is not None else {"room": self.room}

    def conversation(self, me: int) -> str:
        """The name of the conversation, the same for all who are in it."""
        if self.user is None:
            return f"r{self.room}"
        return f"u{min(me, self.user)}:{max(me, self.user)}"


class RoomFacts(Struct, frozen=True):
    """A room as one user meets it."""

    id: int
    kind: str
    has_history: bool
    is_archived: bool
    #: When the user has become a member, on the site's clock; None: it is none.
    since: int | None
    is_admin: bool


def check_member(room: RoomFacts | None) -> RoomFacts:
    """The room, of which the user is a member. Raises ChatRefusal."""
    if room is None:
        raise ChatRefusal("unknown_room", "No room has this id.")
    if room.since is None:
        raise ChatRefusal("not_member", "This is for members of the room.")
    return room


def check_writing(room: RoomFacts | None) -> None:
    """Raises ChatRefusal for a user that may not write to the room."""
    room = check_member(room)
    if room.is_archived:
        raise ChatRefusal("bad_request", "The room is archived and takes no messages.")
    if room.kind == CHANNEL and not room.is_admin:
        raise ChatRefusal("not_admin", "Only admins of a channel write to it.")


def check_change(is_own: bool, room: RoomFacts | None, in_room: bool) -> None:
    """Raises ChatRefusal for a user that may not change a message that it sees."""
    if in_room:
        room = check_member(room)
        if is_own or room.is_admin:
            return
    elif is_own:
        return
    raise ChatRefusal("not_admin", "Expected a message of one's own, or to be an admin of its room.")


def addressees(target: ChatTarget, sender: int, is_withheld: bool) -> list[int] | None:
    """The users that get a message; None: everyone in its room."""
    if target.user is None:
        return None
    return [sender] if is_withheld else sorted({sender, target.user})


def hidden_by_block(sender_is_blocked: bool, is_withheld: bool) -> bool:
    """Whether a change of a message stays with its sender, because the addressee has blocked it since."""
    return sender_is_blocked and not is_withheld


def parts_of(rooms: Sequence[str], most: int) -> list[list[str]]:
    """The rooms in lists of at most so many."""
    return [list(rooms[start : start + most]) for start in range(0, len(rooms), most)]
