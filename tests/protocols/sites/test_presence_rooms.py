"""The rooms that have presence."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import PresenceSettings
from app.protocols.sites.presence_rooms import has_presence
from tests.support.store import make_site


def has(pattern: str, room: str) -> bool:
    """Whether a room has presence in a site with one pattern."""
    return has_presence(make_site(presence=PresenceSettings(rooms=(pattern,)), public_channel="public"), room)


@pytest.mark.parametrize(
    ("pattern", "room", "expected"),
    [
        ("*", "anything", True),
        ("*", "user_1", False),
        ("*", "public", False),
        ("Lobby", "lOBBY", True),
        ("lobby", "lobby2", False),
        ("team-*", "Team-7", True),
        ("team-*", "a team-7", False),
        ("a*a", "a", False),
        ("a*b*c", "a-c-b-c", True),
        ("a*b*c", "a-c", False),
    ],
)
def test_patterns(pattern: str, room: str, expected: bool) -> None:
    """`*` stands for any text, case does not count, and no user room has presence."""
    assert has(pattern, room) is expected


def test_a_site_without_presence() -> None:
    """No room has any."""
    assert not has_presence(make_site(), "room")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_mean_what_a_shell_means(pattern: str, room: str) -> None:
    """The reference is fnmatch, which takes a time that a pattern can make very long."""
    assert has(pattern, room) is fnmatch.fnmatchcase(room, pattern)
