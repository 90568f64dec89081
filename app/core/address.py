"""The rules of rooms: which belong to a user, and which devices or connections a list of rooms stands for.

Pure text in, text out. Rooms of a site with queues are told apart by their exact name when they are user rooms, and
compared without case otherwise, as socket.io-webservice does.
"""

from collections.abc import Iterable, Sequence

from app.config.settings import Site


def is_user_room(site: Site, room: str) -> bool:
    """Whether the room is the private room of one user (or the public channel, which counts as one)."""
    return room == site.public_channel or (bool(site.user_room_prefix) and room.startswith(site.user_room_prefix or ""))


def user_rooms(site: Site, rooms: Iterable[str]) -> list[str]:
    """The user rooms among the rooms of a connection, each once, in their order."""
    return [room for room in dict.fromkeys(rooms) if is_user_room(site, room)]


def room_names(rooms: Iterable[str]) -> list[str]:
    """The names under which a user's rooms are found, each once, sorted. A user's own room is among them: a send to
    it in another case is no user room by its prefix, yet finds the user."""
    return sorted({room.lower() for room in rooms})


def addresses(site: Site, rooms: Sequence[str]) -> list[str]:
    """Where a send to these rooms goes: `user:<room>` for a user room, `room:<name>` for a shared one."""
    return list(dict.fromkeys(f"user:{room}" if is_user_room(site, room) else f"room:{room.lower()}" for room in rooms))


def user_id_of_room(prefix: str, room: str) -> str:
    """The `:id` of updateUserUrl: the part of the user room behind the prefix, up to the next `_`."""
    return room[len(prefix) :].split("_", 1)[0]
