"""The rules of rooms: which rooms belong to a user, and under which names a list of rooms is found.

Pure text in, text out. Rooms are compared without case in every site. Only user rooms, which exist in sites with
queues, are compared exactly: they are identities. socket.io-webservice compared the rooms of sites without queues
exactly.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from app.config.settings import Site
from app.surrogates import encode_text

#: The rooms of a connection, whatever the site's `rooms_per_connection`: one script registers it in all of them.
MAX_ROOMS = 10_000
MAX_ROOM_BYTES = 1_000

#: A room as JSON may hold it.
Room = str | int | float
#: Whole numbers up to here are exact in JavaScript.
_MOST_EXACT = 2**53
#: JavaScript writes other numbers without an exponent between these.
_PLAIN_FROM, _PLAIN_TO = 1e-6, 1e21


def room_text(room: Room) -> str:
    """The room as text. A number becomes the text that JavaScript gives it, because the backends of
    socket.io-webservice may name rooms by number: `5` and `5.0` are `5`."""
    if isinstance(room, str):
        return room
    if isinstance(room, int) and abs(room) <= _MOST_EXACT:
        return str(room)
    # Through a text: an integer too large for a float is infinite, not an error.
    number = float(str(room))
    if number and not _PLAIN_FROM <= abs(number) < _PLAIN_TO:
        return repr(number)
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def room_texts(rooms: Iterable[Room]) -> list[str]:
    """The rooms as texts, in their order."""
    return [room if type(room) is str else room_text(room) for room in rooms]


def are_within_bounds(rooms: Sequence[str]) -> bool:
    """Whether a connection may have these rooms, by their number and their length."""
    if len(rooms) > MAX_ROOMS:
        return False
    # No character has more than four bytes.
    long = [room for room in rooms if len(room) * 4 > MAX_ROOM_BYTES]
    return not long or all(len(encode_text(room)) <= MAX_ROOM_BYTES for room in long)


def is_user_room(site: Site, room: str) -> bool:
    """Whether the room is the private room of one user. The public channel counts as one."""
    return room == site.public_channel or (bool(site.user_room_prefix) and room.startswith(site.user_room_prefix or ""))


def user_rooms(site: Site, rooms: Iterable[str]) -> list[str]:
    """The user rooms among the rooms of a connection, each once, in their order."""
    prefix, public = site.user_room_prefix, site.public_channel
    return [room for room in dict.fromkeys(rooms) if room == public or (prefix and room.startswith(prefix))]


def room_names(rooms: Iterable[str]) -> list[str]:
    """The names under which a user's rooms are found, each once, sorted. The user room is among them: a send to it in
    another case finds the user, although it is no user room by its prefix then."""
    return sorted({room.lower() for room in rooms})


def addresses(site: Site, rooms: Sequence[str]) -> list[str]:
    """The addresses of a send to these rooms: `user:<room>` for a user room, `room:<name>` for a shared room."""
    return list(dict.fromkeys(f"user:{room}" if is_user_room(site, room) else f"room:{room.lower()}" for room in rooms))
