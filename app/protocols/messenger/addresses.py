"""The rooms of the core behind users and rooms."""

from app.protocols.messenger.bounds import ROOM_PREFIX, USER_PREFIX


def user_room(user: int | str) -> str:
    """The room of a user in the core: by its number, or by its id at a backend."""
    return f"{USER_PREFIX}{user}"


def run_room(run: str, user: int | None = None) -> str:
    """The room of the core behind a run of a load test: of all devices that take part, or of those of one user."""
    return f"load_{run}" if user is None else f"load_{run}_{user}"


def shared_room(room: int) -> str:
    """The room of the core behind a room."""
    return f"{ROOM_PREFIX}{room}"
