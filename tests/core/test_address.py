"""The rules of rooms: which rooms belong to a user, and under which names they are found."""

from __future__ import annotations

import pytest

from app.core.address import addresses, is_user_room, room_names, room_text, user_rooms
from tests.support.store import make_site

QUEUED = make_site(user_room_prefix="user_", public_channel="Public")
PLAIN = make_site(user_room_prefix=None)


@pytest.mark.parametrize(
    ("room", "text"),
    [
        ("5", "5"),
        (5, "5"),
        (5.0, "5"),
        (-3, "-3"),
        (1.5, "1.5"),
        (0.00001, "0.00001"),
        (12345678901234567890, "12345678901234567000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (10**400, "inf"),
    ],
)
def test_text_of_a_room(room: str | float, text: str) -> None:
    """A room that is a number is the text that JavaScript gives it; a number without end is no error."""
    assert room_text(room) == text


@pytest.mark.parametrize(
    ("room", "is_private"),
    [
        ("user_1", True),
        ("user_", True),
        ("USER_1", False),
        ("user", False),
        (" user_1", False),
        ("my user_1", False),
        ("Public", True),
        ("public", False),
        ("Public ", False),
        ("", False),
    ],
)
def test_user_room_is_told_by_its_exact_prefix(room: str, is_private: bool) -> None:
    """A user room begins with the prefix, letter for letter; the public channel counts as one by its exact name."""
    assert is_user_room(QUEUED, room) is is_private


@pytest.mark.parametrize("prefix", [None, ""])
@pytest.mark.parametrize("room", ["", "user_1", "anything"])
def test_without_prefix_no_room_is_a_users(prefix: str | None, room: str) -> None:
    """A site without userRoomPrefix has no user rooms, not even the room whose name is empty."""
    assert not is_user_room(make_site(user_room_prefix=prefix), room)


def test_without_public_channel_none_is_public() -> None:
    """A site without a setting for the public channel has no public channel."""
    assert not is_user_room(make_site(user_room_prefix="user_"), "None")


def test_user_rooms_are_each_once_in_their_order() -> None:
    """The devices of a connection: one per user room, in the order in which the backend named them."""
    assert user_rooms(QUEUED, ["b", "user_2", "Public", "user_1", "user_2", "B"]) == ["user_2", "Public", "user_1"]


def test_room_names_are_lower_case_sorted_and_each_once() -> None:
    """Names that differ in case are one room; a user room, too, is found under its lower-case name."""
    assert room_names(["News", "news", "ÄB", "user_A", ""]) == ["", "news", "user_a", "äb"]


@pytest.mark.parametrize(
    ("rooms", "expected"),
    [
        ([], []),
        (["user_1"], ["user:user_1"]),
        (["user_1", "user_1"], ["user:user_1"]),
        (["News", "NEWS", "news"], ["room:news"]),
        (["USER_1", "user_1"], ["room:user_1", "user:user_1"]),
        (["Public", "public"], ["user:Public", "room:public"]),
        (["user_a:b*", "a:*"], ["user:user_a:b*", "room:a:*"]),
        (["Straße", "STRASSE"], ["room:straße", "room:strasse"]),
    ],
)
def test_addresses(rooms: list[str], expected: list[str]) -> None:
    """A user room is addressed by its exact name, any other room without case; each address comes once."""
    assert addresses(QUEUED, rooms) == expected


def test_addresses_and_room_names_agree() -> None:
    """The members of a room are found in whatever case its name is written: both sides fold names the same way."""
    for room in ("News", "İstanbul", "ẞ", "ǅ", "user_1".upper()):
        assert addresses(QUEUED, [room]) == [f"room:{name}" for name in room_names([room])]
