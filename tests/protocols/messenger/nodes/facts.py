"""The rules of conversations in plain lists: what was accepted, who sees it, and what each device has to get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: A membership: the user, and the numbers behind which it begins and at which it ends.
Span = tuple[int, int, int | None]


@dataclass
class Said:
    """A message that was accepted."""

    id: int
    sender: int
    device: str
    #: A user, or a room.
    user: int | None
    room: int | None
    text: str
    is_withheld: bool = False
    is_deleted: bool = False
    #: The text that the sender alone sees, after a change while blocked; None for deleted.
    own: tuple[str | None] | None = None
    #: The users that were told of each change, and the device that made it and was told nothing.
    changes: list[tuple[set[int], tuple[int, str]]] = field(default_factory=list)
    #: The devices that were in when it was sent: they hear of it as an event.
    devices: frozenset[tuple[int, str]] = frozenset()

    def text_for(self, user: int) -> str | None:
        """The text that a user sees; None: deleted."""
        if self.own is not None and user == self.sender:
            return self.own[0]
        return None if self.is_deleted else self.text


class Facts:
    """The events of one run."""

    def __init__(self, users: Iterable[int]) -> None:
        """Begin without rooms."""
        self.users = list(users)
        self.said: dict[int, Said] = {}
        self.members: dict[int, set[int]] = {}
        self.creators: dict[int, int] = {}
        self.histories: set[int] = set()
        self.blocks: set[tuple[int, int]] = set()
        #: Pairs that were blocked at some time: receipts between them are not certain.
        self.ever_blocked: set[tuple[int, int]] = set()
        #: Messages and the devices of users that have read them.
        self.reads: set[tuple[int, int, str]] = set()
        #: The memberships of rooms by the numbers of the clock; see `learn`.
        self.spans: Mapping[int, list[Span]] = {}

    def learn(self, spans: Mapping[int, list[Span]]) -> None:
        """Take the numbers of memberships from the database: of requests that were under way at once, no answer tells
        which came first. The members of now are known without it."""
        for room, members in self.members.items():
            now = {user for user, _, until in spans[room] if until is None}
            assert now == members, f"room {room} has {now}, expected {members}"
        self.spans = spans

    def sees(self, user: int, one: Said) -> bool:
        """Whether a user sees a message now."""
        if one.room is None:
            return user == one.sender or (user == one.user and not one.is_withheld)
        since = next((span[1] for span in self.spans[one.room] if span[0] == user and span[2] is None), None)
        return since is not None and (one.room in self.histories or since < one.id)

    def was_for(self, user: int, one: Said) -> bool:
        """Whether a message was for a user when it was accepted."""
        if one.room is None:
            return user == one.sender or (user == one.user and not one.is_withheld)
        spans = self.spans[one.room]
        return any(who == user and since < one.id and (until is None or one.id < until) for who, since, until in spans)

    def seen(self, user: int) -> dict[int, str | None]:
        """All that a user sees, by id."""
        return {one.id: one.text_for(user) for one in self.said.values() if self.sees(user, one)}

    def in_conversation(self, one: Said, user: int, other: int | None, room: int | None) -> bool:
        """Whether a message is in a user's conversation."""
        if room is not None or one.room is not None:
            return one.room == room
        return {one.sender, one.user} == {user, other}
