"""The words of a backend about a client."""

from __future__ import annotations

import pytest

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.beside.backend_user import BackendUser, user_of_rooms
from app.protocols.messenger.bounds import MAX_ROOMS_OF_USER


def of(*rooms: str, public: str | None = None, is_fresh: bool = True) -> BackendUser | None:
    """The user of these rooms."""
    users = [room for room in rooms if room.startswith("user_") or room == public]
    return user_of_rooms(rooms, users, public, is_fresh=is_fresh)


def test_user_and_rooms() -> None:
    """The first user room names the user; rooms have no case, and keep their first name."""
    assert of("News", "user_a_b", "user_c", "NEWS", "ü") == BackendUser("a_b", {"news": "News", "ü": "ü"})


def test_a_ticket_says_nothing_of_rooms() -> None:
    """The rooms of an earlier connect change nothing."""
    assert of("user_7", "News", is_fresh=False) == BackendUser("7", None)


@pytest.mark.parametrize("rooms", [("all",), ("News", "all"), ("user_",), ("user_a\x00",), ("user_\x1f",)])
def test_no_user(rooms: tuple[str, ...]) -> None:
    """A client of the public channel alone, or with an id that no database holds, is nobody here."""
    assert of(*rooms, public="all") is None


@pytest.mark.parametrize("room", ["messenger_room_1", "Messenger_x", "user_messenger_user_1"])
def test_names_that_are_given_here(room: str) -> None:
    """A backend may not give names that rooms and users made here have."""
    with pytest.raises(ChatRefusal, match="messenger_"):
        of("user_7", room)


def test_rooms_that_are_not_held() -> None:
    """Names that no database holds, and rooms past the bound, are not in the directory."""
    rooms = ("", "a\nb", "\ud800", "x" * 1_001, *(f"r{number}" for number in range(MAX_ROOMS_OF_USER + 5)))
    known = of("user_7", *rooms)
    assert known is not None
    assert list(known.rooms or ()) == [f"r{number}" for number in range(MAX_ROOMS_OF_USER)]
