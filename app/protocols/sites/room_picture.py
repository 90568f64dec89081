"""The picture of a watched room: what its watchers were told, what has changed since, and what to tell them next.

    Redis ──snapshot, changes──▶ RoomPicture ──news──▶ watchers

Pure. Changes have versions without gaps while the room is small; a gap is answered by a new snapshot.
"""

from typing import Any

from msgspec import Struct

from app.clock import rfc3339

#: The events to watchers. The first one has the state as a whole.
STATE = "_presence"
JOIN = "_join"
LEAVE = "_leave"


class RoomSnapshot(Struct, frozen=True):
    """A room as Redis knows it."""

    version: int
    #: Its users.
    count: int
    #: With more users than this the room has a number only.
    most: int
    #: User -> since when it is present, in ms. None: there are too many.
    members: dict[str, int] | None


class PresenceChange(Struct, frozen=True):
    """A user has joined or left."""

    version: int
    #: The users after it.
    count: int
    #: 0: it has left.
    since: int
    #: "": only the number is told.
    user: str


class RoomPicture:
    """One room as one node tells of it. Lives while somebody watches the room here."""

    def __init__(self, snapshot: RoomSnapshot) -> None:
        self._version = snapshot.version
        self._most = snapshot.most
        self._count = snapshot.count
        self._members = snapshot.members
        #: The state of the watchers, which may lack changes for a moment.
        self._told_count = snapshot.count
        self._told = None if snapshot.members is None else dict(snapshot.members)
        #: Users whose state may differ from what was told. None: all.
        self._touched: set[str] | None = set()

    @property
    def is_listed(self) -> bool:
        """Whether the users are known one by one."""
        return self._members is not None

    @property
    def size(self) -> int:
        """The users that it holds."""
        return len(self._members or ())

    def was_told(self, user: str) -> bool:
        """Whether watchers know that a user is in the room; True where they are told of no users."""
        return self._told is None or user in self._told

    def load(self, snapshot: RoomSnapshot) -> None:
        """Takes a later snapshot: what differs from what was told is told."""
        self._version, self._most, self._count = snapshot.version, snapshot.most, snapshot.count
        self._members, self._touched = snapshot.members, None

    def recount(self, version: int, count: int) -> bool:
        """Takes the number of users, while they are too many. False: a snapshot is due, because they are few again."""
        self._version, self._count = max(version, self._version), count
        return count > self._most

    def hear(self, change: PresenceChange) -> bool:
        """Takes a change. False: a snapshot is due, because changes before it are missing, or users are few again."""
        if change.version <= self._version:
            # The snapshot has it.
            return True
        is_next = change.version == self._version + 1
        self._version, self._count = change.version, change.count
        if self._members is None:
            return change.count > self._most
        if not is_next:
            return False
        if not change.user or change.count > self._most:
            self._members = None
        elif change.since:
            self._members[change.user] = change.since
        else:
            self._members.pop(change.user, None)
        if self._touched is not None:
            self._touched.add(change.user)
        return True

    def state(self) -> dict[str, Any]:
        """The state that watchers have."""
        state: dict[str, Any] = {"count": self._told_count}
        if self._told is not None:
            state["users"] = _listed(self._told)
        return state

    def take_news(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that bring watchers from what they were told to what is so now; a user that has come and gone
        meanwhile is in none."""
        members, told, touched = self._members, self._told, self._touched
        self._touched = set()
        was, self._told_count = self._told_count, self._count
        if members is None or told is None:
            self._told = None if members is None else dict(members)
            is_same = members is None and told is None and was == self._count
            return [] if is_same else [(STATE, self.state())]
        users = members.keys() | told.keys() if touched is None else touched
        left = [user for user in users if user in told and told[user] != members.get(user)]
        joined = {user: members[user] for user in users if user in members and told.get(user) != members[user]}
        for user in left:
            del told[user]
        told |= joined
        news: list[tuple[str, dict[str, Any]]] = []
        if left:
            news.append((LEAVE, {"users": sorted(left), "count": len(told) - len(joined)}))
        if joined:
            news.append((JOIN, {"users": _listed(joined), "count": len(told)}))
        return news


def _listed(members: dict[str, int]) -> list[dict[str, Any]]:
    """Users, the longest present first."""
    return [{"user": user, "since": rfc3339(since)} for user, since in sorted(members.items(), key=_by_since)]


def _by_since(member: tuple[str, int]) -> tuple[int, str]:
    return member[1], member[0]
