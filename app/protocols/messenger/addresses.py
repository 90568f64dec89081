"""The rooms of the core behind users and rooms."""

from app.protocols.messenger.bounds import ROOM_PREFIX, USER_PREFIX


def user_room(user: int | str) -> str:
    """The room of a user in the core: by its number, or by its id at a backend."""
    return f"{USER_PREFIX}{user}"


def shared_room(room: int) -> str:
    """The room of the core behind a room."""
    return f"{ROOM_PREFIX}{room}"
