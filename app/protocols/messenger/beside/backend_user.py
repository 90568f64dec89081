"""The words of a backend about one client, as the directory takes them. Plain code."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_ROOMS_OF_USER, USER_PREFIX
from app.protocols.messenger.chat_names import OWN_PREFIX, is_reserved
from app.protocols.messenger.text_ids import is_fit


class BackendUser(Struct, frozen=True):
    """A user of the backend. Lives during a connect."""

    #: The id at the backend.
    external: str
    #: The names of the rooms by their ids, which have no case; None: they are those of an earlier connect.
    rooms: Mapping[str, str] | None


def user_of_rooms(
    rooms: Sequence[str], users: Sequence[str], public: str | None, *, is_fresh: bool
) -> BackendUser | None:
    """The user of the first user room, with the rooms that the directory can hold; None: there is no such user. Raises
    ChatRefusal for names that are given here."""
    ids = [room.removeprefix(USER_PREFIX) for room in users if room != public]
    if any(map(is_reserved, (*rooms, *ids))):
        raise ChatRefusal("bad_request", f"Rooms: expected none whose name begins with {OWN_PREFIX}")
    if not ids or not is_fit(ids[0]):
        return None
    shared = set(users) | {public}
    return BackendUser(ids[0], held_rooms(room for room in rooms if room not in shared) if is_fresh else None)


def held_rooms(rooms: Iterable[str]) -> dict[str, str]:
    """The first rooms that fit: their names by their ids. Further ones are rooms of the core alone."""
    held: dict[str, str] = {}
    for room in rooms:
        if is_fit(room) and is_fit(room.lower()):
            held.setdefault(room.lower(), room)
            if len(held) == MAX_ROOMS_OF_USER:
                break
    return held
