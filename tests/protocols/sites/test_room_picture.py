"""The picture of a watched room: versions, gaps, and the events that bring watchers up to date."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.clock import rfc3339
from app.protocols.sites.room_picture import JOIN, LEAVE, STATE, PresenceChange, RoomPicture, RoomSnapshot


def listed(version: int, *users: str, most: int = 3) -> RoomSnapshot:
    """A room whose users have come at the times 1, 2, ..."""
    members = {user: number for number, user in enumerate(users, 1)}
    return RoomSnapshot(version, len(users), most, members if len(users) <= most else None)


def test_changes_become_few_events() -> None:
    """Users that have come and gone since the last events are in none; joins and leaves are told together."""
    picture = RoomPicture(listed(5, "a", "b"))
    assert picture.hear(PresenceChange(6, 3, 9, "c"))
    assert picture.hear(PresenceChange(7, 2, 0, "a"))
    assert picture.hear(PresenceChange(8, 3, 9, "d"))
    assert picture.hear(PresenceChange(9, 2, 0, "d"))
    assert picture.state()["count"] == 2
    assert picture.take_news() == [
        (LEAVE, {"users": ["a"], "count": 1}),
        (JOIN, {"users": [{"user": "c", "since": rfc3339(9)}], "count": 2}),
    ]
    assert picture.take_news() == []


def test_a_user_that_has_left_and_come_again() -> None:
    """Both are told, because the user is present since another time."""
    picture = RoomPicture(listed(5, "a"))
    picture.hear(PresenceChange(6, 0, 0, "a"))
    picture.hear(PresenceChange(7, 1, 4, "a"))
    assert [event for event, _ in picture.take_news()] == [LEAVE, JOIN]


def test_a_gap() -> None:
    """A version that is not the next one makes a snapshot due; an old one does not. The difference is told."""
    picture = RoomPicture(listed(5, "a"))
    assert picture.hear(PresenceChange(5, 9, 1, "x"))
    assert not picture.hear(PresenceChange(7, 2, 1, "c"))
    picture.load(listed(8, "a", "b"))
    assert picture.take_news() == [(JOIN, {"users": [{"user": "b", "since": rfc3339(2)}], "count": 2})]


def test_too_many_users() -> None:
    """Their number is told with each state, and a snapshot is due when they are few again."""
    picture = RoomPicture(listed(5, "a", "b", "c"))
    assert picture.hear(PresenceChange(6, 4, 9, "d"))
    assert not picture.is_listed
    assert picture.take_news() == [(STATE, {"count": 4})]
    assert picture.hear(PresenceChange(9, 7, 0, ""))
    assert picture.recount(12, 8)
    assert picture.take_news() == [(STATE, {"count": 8})]
    assert picture.recount(12, 8)
    assert picture.take_news() == []
    assert not picture.recount(20, 2)
    picture.load(listed(20, "a", "b"))
    ((event, state),) = picture.take_news()
    assert (event, state["count"], [one["user"] for one in state["users"]]) == (STATE, 2, ["a", "b"])


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.booleans(), st.booleans())),
    st.integers(1, 5),
)
def test_a_watcher_ends_with_what_is_so(steps: list[tuple[str, bool, bool, bool]], most: int) -> None:
    """After any changes, some of them lost, a watcher has the users, or their number, once it was told."""
    members: dict[str, int] = {}
    picture, version = RoomPicture(RoomSnapshot(0, 0, most, {})), 0
    told: dict[str, Any] = {}
    count = 0

    def tell() -> None:
        nonlocal told, count
        for event, content in picture.take_news():
            count = content["count"]
            if event == STATE:
                told = {one["user"]: one["since"] for one in content.get("users", [])}
            elif event == JOIN:
                assert not told.keys() & {one["user"] for one in content["users"]}
                told |= {one["user"]: one["since"] for one in content["users"]}
            else:
                told = {user: since for user, since in told.items() if user not in content["users"]}

    for user, is_lost, is_told, joins in steps:
        if joins is (user in members):
            continue
        version += 1
        members.pop(user, None)
        if joins:
            members[user] = version
        change = PresenceChange(version, len(members), version if joins else 0, user)
        if not is_lost and not picture.hear(change):
            picture.load(RoomSnapshot(version, len(members), most, dict(members) if len(members) <= most else None))
        if is_told:
            tell()
    picture.load(RoomSnapshot(version, len(members), most, dict(members) if len(members) <= most else None))
    tell()
    assert count == len(members)
    if len(members) <= most:
        assert told == {user: rfc3339(since) for user, since in members.items()}
