"""The rules of rooms: which rooms belong to a user, and under which names a list of rooms is found.

Pure text in, text out. In a site with queues user rooms are compared exactly, and other rooms without case, as
socket.io-webservice does.
"""

from collections.abc import Iterable, Sequence

from app.config.settings import Site


def is_user_room(site: Site, room: str) -> bool:
    """Whether the room is the private room of one user. The public channel counts as one."""
    return room == site.public_channel or (bool(site.user_room_prefix) and room.startswith(site.user_room_prefix or ""))


def user_rooms(site: Site, rooms: Iterable[str]) -> list[str]:
    """The user rooms among the rooms of a connection, each once, in their order."""
    return [room for room in dict.fromkeys(rooms) if is_user_room(site, room)]


def room_names(rooms: Iterable[str]) -> list[str]:
    """The names under which a user's rooms are found, each once, sorted. The user room is among them: a send to it in
    another case finds the user, although it is no user room by its prefix then."""
    return sorted({room.lower() for room in rooms})


def addresses(site: Site, rooms: Sequence[str]) -> list[str]:
    """The addresses of a send to these rooms: `user:<room>` for a user room, `room:<name>` for a shared room."""
    return list(dict.fromkeys(f"user:{room}" if is_user_room(site, room) else f"room:{room.lower()}" for room in rooms))
