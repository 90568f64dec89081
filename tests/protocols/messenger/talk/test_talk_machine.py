"""Visibility under any order of events: conversations in SQL against a plain model, on both databases.

RECADO_MACHINE_RUNS=1000 makes it run long.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.facts import OutboxRow
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground, decoded

USERS, ROOMS, DEVICES = range(3), range(2), ("a", "b")
WORDS = ("apple", "berry", "cherry")
_sites = itertools.count(1)
users = st.sampled_from(USERS)
rooms = st.sampled_from(ROOMS)
devices = st.sampled_from(DEVICES)
words = st.sampled_from(WORDS)
#: A user, or a room behind the users.
places = st.integers(0, len(USERS) + len(ROOMS) - 1)


@dataclass
class Said:
    """A message of the model."""

    id: int
    number: int
    sender: int
    to: int
    text: str
    is_withheld: bool
    is_deleted: bool = False
    #: The text that the sender alone sees, after a change while blocked; None for deleted.
    own: tuple[str | None] | None = None

    @property
    def room(self) -> int | None:
        """Its room; None for a direct message."""
        return self.to - len(USERS) if self.to >= len(USERS) else None

    def text_for(self, user: int) -> str | None:
        """The text that a user sees; None: deleted."""
        if self.own is not None and user == self.sender:
            return self.own[0]
        return None if self.is_deleted else self.text


class TalkModel:
    """The rules of conversations in plain lists."""

    def __init__(self) -> None:
        """Begin without members."""
        self.said: list[Said] = []
        self.number = 0
        #: The members of rooms, with the number of their entry.
        self.members: dict[int, dict[int, int]] = {room: {} for room in ROOMS}
        self.histories: set[int] = set()
        self.blocks: set[tuple[int, int]] = set()
        #: The events that each device has to get, in order.
        self.told: dict[tuple[int, str], list[tuple[str, int]]] = defaultdict(list)

    def sees(self, user: int, one: Said) -> bool:
        """Whether a user sees a message."""
        if one.room is None:
            return user == one.sender or (user == one.to and not one.is_withheld)
        since = self.members[one.room].get(user)
        return since is not None and (one.room in self.histories or one.number > since)

    def seen(self, user: int) -> dict[int, str | None]:
        """All that a user sees, by id."""
        return {one.id: one.text_for(user) for one in self.said if self.sees(user, one)}

    def tell(self, event: str, one: Said, hearers: list[int], but: tuple[int, str]) -> None:
        """Devices of these users get an event, but not the one that has sent it."""
        for user in hearers:
            for device in DEVICES:
                if (user, device) != but:
                    self.told[user, device].append((event, one.id))


class TalkMachine(RuleBasedStateMachine):
    """One run: a site of its own; ended by `teardown`."""

    sql: ClassVar[ChatSql]
    runner: ClassVar[asyncio.Runner]

    def __init__(self) -> None:
        """Make users and rooms."""
        super().__init__()
        self.model = TalkModel()
        self.ground = Ground(self.sql, f"machine{next(_sites)}")
        self.users: list[int] = self.run(self.ground.users(len(USERS)))
        self.rooms: list[int] = [self.run(self.ground.room()) for _ in ROOMS]
        self.cursors: dict[int, str | None] = dict.fromkeys(USERS)
        self.clients: dict[int, dict[int, tuple[Any, str]]] = {user: {} for user in USERS}
        #: The rooms of users in the core, and the events that devices have got.
        self.core: dict[str, set[str]] = {f"user_{id}": {f"user_{id}"} for id in self.users}
        self.got: dict[tuple[int, str], list[tuple[str, int]]] = defaultdict(list)

    def run(self, doing: Any) -> Any:
        """Wait for an answer."""
        return self.runner.run(doing)

    def target(self, place: int) -> ChatTarget:
        """The conversation with a user or in a room."""
        if place < len(USERS):
            return ChatTarget(user=self.users[place])
        return ChatTarget(room=self.rooms[place - len(USERS)])

    @initialize(
        members=st.sets(st.tuples(users, rooms), min_size=1), blocks=st.sets(st.tuples(users, users), max_size=2)
    )
    def begin(self, members: set[tuple[int, int]], blocks: set[tuple[int, int]]) -> None:
        """Some users are members, and some have blocked others."""
        for user, room in sorted(members):
            self.enter(user, room)
        for user, other in sorted(blocks):
            self.block(user, other, True)

    @rule(user=users, place=places, device=devices, word=words)
    def send(self, user: int, place: int, device: str, word: str) -> None:
        """A message is accepted for those that may hear it, or refused."""
        model = self.model
        text = f"{word} {len(model.said)}"
        room = place - len(USERS)
        if room >= 0 and user not in model.members[room]:
            assert self.refusal(self.ground.send(self.users[user], self.target(place), text)) == "not_member"
            return
        sent = self.run(self.ground.send(self.users[user], self.target(place), text, device=device))
        model.number += 1
        one = Said(sent.id, model.number, user, place, text, room < 0 and (place, user) in model.blocks)
        model.said.append(one)
        hearers = list(model.members[room]) if room >= 0 else sorted({user} if one.is_withheld else {user, place})
        model.tell("message", one, hearers, (user, device))

    @precondition(lambda self: any(self.model.members.values()))
    @rule(data=st.data(), device=devices, word=words, newcomer=users)
    def send_and_enter(self, data: st.DataObject, device: str, word: str, newcomer: int) -> None:
        """A member writes to its room, and another user enters right behind."""
        room = data.draw(st.sampled_from([room for room, members in self.model.members.items() if members]))
        self.send(data.draw(st.sampled_from(sorted(self.model.members[room]))), room + len(USERS), device, word)
        self.enter(newcomer, room)

    @precondition(lambda self: self.model.blocks)
    @rule(data=st.data(), device=devices, word=words)
    def send_while_blocked(self, data: st.DataObject, device: str, word: str) -> None:
        """A blocked user writes to the one that has blocked it."""
        user, other = data.draw(st.sampled_from(sorted(self.model.blocks)))
        self.send(other, user, device, word)

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), device=devices, word=st.sampled_from((*WORDS, None)), is_behind_block=st.booleans())
    def change_own(self, data: st.DataObject, device: str, word: str | None, is_behind_block: bool) -> None:
        """A sender changes its message, perhaps right behind a block."""
        place = data.draw(st.integers(0, len(self.model.said) - 1))
        one = self.model.said[place]
        if one.room is None and is_behind_block:
            self.block(one.to, one.sender, True)
        self.change_one(one, one.sender, device, word)

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), user=users, device=devices, word=st.sampled_from((*WORDS, None)))
    def change(self, data: st.DataObject, user: int, device: str, word: str | None) -> None:
        """The sender changes or deletes a message that it sees; others are refused."""
        place = data.draw(st.integers(0, len(self.model.said) - 1))
        self.change_one(self.model.said[place], user, device, word)

    def change_one(self, one: Said, user: int, device: str, word: str | None) -> None:
        """A user changes a message, or is refused."""
        model = self.model
        text = None if word is None else f"{word} changed"
        doing = self.ground.edit(self.users[user], one.id, text, device=device)
        if not model.sees(user, one):
            assert self.refusal(doing) == "bad_request"
        elif user != one.sender:
            assert self.refusal(doing) == "not_admin"
        elif one.text_for(user) is None:
            if text is None:
                self.run(doing)
            else:
                assert self.refusal(doing) == "bad_request"
        else:
            self.run(doing)
            is_blocked = one.room is None and (one.to, user) in model.blocks
            if is_blocked and not one.is_withheld:
                one.own = (text,)
            else:
                one.own, one.is_deleted, one.text = None, text is None, text or ""
            hearers = [other for other in USERS if model.sees(other, one)]
            model.tell("message_changed", one, [user] if is_blocked else hearers, (user, device))

    @rule(user=users, room=rooms)
    def enter(self, user: int, room: int) -> None:
        """A user becomes a member, or is one."""
        self.run(self.ground.enter(self.rooms[room], self.users[user]))
        self.model.members[room].setdefault(user, self.model.number)

    @rule(user=users, room=rooms)
    def leave(self, user: int, room: int) -> None:
        """A user leaves; its client forgets the room."""
        self.run(self.ground.leave(self.rooms[room], self.users[user]))
        self.model.members[room].pop(user, None)
        mine = self.clients[user]
        for id in [id for id, (to, _) in mine.items() if to == {"room": self.rooms[room]}]:
            del mine[id]

    @rule(room=rooms)
    def open_history(self, room: int) -> None:
        """The history of a room is opened to all members."""
        self.run(self.ground.set_room(self.rooms[room], has_history=True))
        self.model.histories.add(room)

    @rule(user=users, other=users, is_blocked=st.booleans())
    def block(self, user: int, other: int, is_blocked: bool) -> None:
        """A user blocks another, or takes that back."""
        if user != other:
            self.run(self.ground.block(self.users[user], self.users[other], is_blocked))
            (self.model.blocks.add if is_blocked else self.model.blocks.discard)((user, other))

    @rule(user=users, max_bytes=st.sampled_from((1, 300, 700, 100_000)))
    def synchronise(self, user: int, max_bytes: int) -> None:
        """A client takes one part."""
        self.part(user, max_bytes)

    @rule(user=users)
    def compare(self, user: int) -> None:
        """History and search show what the model sees; a client that has synchronised has the same."""
        seen = self.model.seen(user)
        for place in range(len(USERS) + len(ROOMS)):
            if place >= len(USERS) and user not in self.model.members[place - len(USERS)]:
                continue
            found = self.run(self.ground.history(self.users[user], self.target(place)))
            ids = [one["id"] for one in found]
            assert ids == sorted(ids, reverse=True)
            here = {one.id for one in self.model.said if self.is_in(one, user, place)}
            assert {one["id"]: one.get("text") for one in found} == {id: seen[id] for id in here & seen.keys()}
        for word in WORDS:
            found = self.run(self.ground.search(self.users[user], word))
            # A search finds the words that all see; a change that its sender alone sees is in no index.
            by_index = {one.id for one in self.model.said if not one.is_deleted and one.text.startswith(word)}
            assert {one["id"] for one in found} == by_index & seen.keys()
        while self.part(user, 100_000) or self.part(user, 100_000):
            pass
        expected = {id: text for id, text in seen.items() if text is not None}
        assert {id: text for id, (_, text) in self.clients[user].items()} == expected

    @rule()
    def relay(self) -> None:
        """The outbox reaches the core."""
        for row in self.run(self.ground.outbox()):
            self.hand(row)
        assert self.got == self.model.told

    def part(self, user: int, max_bytes: int) -> bool:
        """Take one part; whether more follows."""
        part = self.run(self.ground.part(self.users[user], self.cursors[user], max_bytes))
        for one in decoded(part.messages):
            if one.get("deleted"):
                self.clients[user].pop(one["id"], None)
            else:
                self.clients[user][one["id"]] = (one["to"], one["text"])
        self.cursors[user] = part.cursor
        return bool(part.more)

    def hand(self, row: OutboxRow) -> None:
        """A row takes effect in the core."""
        if row.kind == "join":
            self.core[row.body].update(row.rooms)
        elif row.kind == "leave":
            self.core[row.body].difference_update(row.rooms)
        else:
            event, message = msgspec.json.decode(row.body)
            for user in USERS:
                name = f"user_{self.users[user]}"
                for device in DEVICES if self.core[name] & set(row.rooms) else ():
                    if (name, device) != (row.but_user, row.but_device):
                        self.got[user, device].append((event, message["id"]))

    def is_in(self, one: Said, user: int, place: int) -> bool:
        """Whether a message is in the conversation of a user at a place."""
        if one.room is not None or place >= len(USERS):
            return one.to == place
        return {one.sender, one.to} == {user, place}

    def refusal(self, doing: Any) -> str:
        """The code of a refusal."""
        try:
            self.run(doing)
        except ChatRefusal as refusal:
            return refusal.code
        return "ok"

    def teardown(self) -> None:
        """At the end all of it agrees."""
        self.relay()
        for user in USERS:
            self.compare(user)


def test_who_sees_what(database: str) -> None:
    """In any order of messages, changes, memberships, blocks and synchronisations users see what the model says."""
    with asyncio.Runner() as runner:
        TalkMachine.sql, TalkMachine.runner = ChatSql.open(database), runner
        try:
            run_state_machine_as_test(
                TalkMachine,
                settings=settings(
                    max_examples=int(os.environ.get("RECADO_MACHINE_RUNS", "6")),
                    stateful_step_count=30,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(TalkMachine.sql.close())
