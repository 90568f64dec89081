"""The id of a user, read from the name of the user room."""

import pytest

from app.protocols.sites.user_room import user_id_of_room


@pytest.mark.parametrize(
    ("prefix", "room", "id_"),
    [
        ("user_", "user_8", "8"),
        ("user_", "user_3_admin", "3"),
        ("user_", "user_", ""),
        ("u", "u12_x_y", "12"),
        ("private-", "private-a-b", "a-b"),
        ("site_user_", "site_user_7_8", "7"),
    ],
)
def test_user_id(prefix: str, room: str, id_: str) -> None:
    """The id is the part behind the prefix, up to the next underscore."""
    assert user_id_of_room(prefix, room) == id_
