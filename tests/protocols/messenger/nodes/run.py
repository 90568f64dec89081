"""One run of users with their devices over two nodes: its steps, each of which goes on until it is answered, and at the
end the comparison of everything that anybody sees with the model."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from tests.protocols.messenger.nodes.facts import Facts, Said
from tests.protocols.messenger.nodes.phone import KINDS, Asked, Phone
from tests.protocols.messenger.nodes.world import PARTS, SITE, World
from tests.support.connector import Drivers
from tests.support.waiting import eventually

WORDS = ("apple", "berry", "cherry")
#: The devices of a run: a user of the run, and its device.
DEVICES = ((0, "phone"), (0, "pad"), (1, "phone"), (2, "phone"), (2, "desk"))
USERS = range(3)
#: A user, or a room behind the users.
PLACES = range(len(USERS) + 2)
_INSIST_SECONDS = 60.0
_runs = itertools.count(1)


class NodesRun:
    """The steps of one run, with users and rooms of its own. Lives until `close`."""

    def __init__(self, world: World, drivers: Drivers) -> None:
        """Make the users, and log each device in."""
        self.world = world
        self.number = next(_runs)
        self.steps: list[str] = []
        self.numbers = itertools.count(1)
        logins = [f"run{self.number} {user}" for user in USERS]
        self.world.heal(are_all=True)
        made = self.world.users(logins)
        self.ids = [made[login] for login in logins]
        self.facts = Facts(self.ids)
        self.clients = drivers.python
        self.phones = [Phone(self.clients, SITE, logins[user], name, self.world.node_url) for user, name in DEVICES]
        self.root = Phone(self.clients, SITE, "root", f"desk {self.number}", self.world.node_url)
        for phone in (*self.phones, self.root):
            # As every client does: its first synchronisation tells nothing of messages that are deleted.
            while self.part(phone, 262_144):
                pass
        self.rooms = [self.make_room(0, [1]), self.make_room(1, [0, 2])]

    # Steps that are sure: each goes on until it is answered

    def bring(self, phone: Phone) -> None:
        """Connect a device; what it cannot do without is started again."""

        def is_in() -> bool:
            if phone.come():
                return True
            self.world.heal()
            return False

        eventually(is_in, f"{phone.login} to come in", _INSIST_SECONDS, 0.1)

    def insist(self, phone: Phone, event: str, data: Any) -> dict[str, Any]:
        """Ask until there is an answer that stays."""

        def ask() -> dict[str, Any] | None:
            self.bring(phone)
            answer = phone.ask(event, data)
            return self.settled(answer)

        return eventually(ask, f"an answer to {event}", _INSIST_SECONDS, 0.1) or {}

    def settled(self, answer: dict[str, Any] | None) -> dict[str, Any] | None:
        """An answer that stays; for one that does not, what is down is started again."""
        if answer is not None and (answer["ok"] or answer["error"]["code"] != "unavailable"):
            return answer
        self.world.heal()
        return None

    def done(self, phone: Phone, event: str, data: Any) -> dict[str, Any]:
        """Ask until it is done."""
        answer = self.insist(phone, event, data)
        assert answer["ok"], (event, data, answer)
        return answer

    def of_user(self, user: int) -> Phone:
        """A device of a user."""
        return self.phones[next(at for at, (who, _) in enumerate(DEVICES) if who == user)]

    def note(self, text: str) -> None:
        """Remember a step for the report of a failure."""
        self.steps.append(text)

    # Conversations

    def make_room(self, creator: int, members: list[int]) -> int:
        """A room whose maker is its admin."""
        phone, name = self.of_user(creator), f"room {self.number} {next(self.numbers)}"
        answer = self.done(phone, "room_create", {"name": name, "members": [self.ids[user] for user in members]})
        room = int(answer["id"])
        self.facts.members[room] = {self.ids[user] for user in (creator, *members)}
        self.facts.creators[room] = creator
        return room

    def message(self, device: int, place: int, word: str) -> dict[str, Any]:
        """A new message of a device."""
        number = next(self.numbers)
        to = {"user": self.ids[place]} if place < len(USERS) else {"room": self.rooms[place - len(USERS)]}
        return {"id": f"{self.number}.{number}", "to": to, "kind": "text", "text": f"{word} {number}"}

    def told(self, device: int, data: dict[str, Any], answer: dict[str, Any], *, moving: int | None = None) -> None:
        """Note what has become of a message."""
        user = self.ids[DEVICES[device][0]]
        to, facts = data["to"], self.facts
        if "room" in to and user not in facts.members[to["room"]] and user != moving:
            assert answer.get("error", {}).get("code") == "not_member", answer
            return
        if not answer["ok"]:
            assert user == moving, answer
            assert answer["error"]["code"] == "not_member", answer
            return
        assert answer["id"] not in facts.said, "two messages have one id"
        is_withheld = "user" in to and (to["user"], user) in facts.blocks
        room, other = to.get("room"), to.get("user")
        known = frozenset(
            (self.ids[who], name) for (who, name), one in zip(DEVICES, self.phones, strict=True) if one.has_entered
        )
        one = Said(answer["id"], user, DEVICES[device][1], other, room, data["text"], is_withheld, devices=known)
        facts.said[one.id] = one

    def send(self, device: int, place: int, word: str) -> None:
        """A message is accepted once, however often it is sent; or it is refused."""
        data = self.message(device, place, word)
        self.note(f"send {DEVICES[device]} {data['to']} {data['id']}")
        answer = self.insist(self.phones[device], "message", data)
        self.told(device, data, answer)
        if answer["ok"]:
            assert self.done(self.phones[device], "message", data)["id"] == answer["id"]

    def burst(
        self,
        sends: list[tuple[int, int, str]],
        fault: str | None,
        behind: int,
        mover: tuple[int, bool] | None,
    ) -> None:
        """Devices send at once, a member comes or goes meanwhile, and something is killed in between."""
        self.note(f"burst {sends} {fault} {behind} {mover}")
        for device, _, _ in sends:
            self.bring(self.phones[device])
        waiting: list[tuple[int, dict[str, Any], Asked | None]] = []
        move: tuple[Phone, dict[str, Any], Asked | None] | None = None
        room = self.rooms[0]
        creator = self.facts.creators[room]
        moving = None if mover is None or mover[0] == creator else self.ids[mover[0]]
        for number, (device, place, word) in enumerate(sends):
            if number == min(behind, len(sends) - 1):
                if moving is not None and mover is not None:
                    move = self.begin_move(room, moving, is_in=mover[1])
                if fault is not None and fault in self.world.parts:
                    self.world.kill(fault)
            data = self.message(device, place, word)
            waiting.append((device, data, self.phones[device].begin("message", data)))
        answers = [self.ended(self.phones[device], "message", data, asked) for device, data, asked in waiting]
        if move is not None and mover is not None and moving is not None:
            phone, change, asked = move
            assert self.ended(phone, "room_change", change, asked)["ok"]
            (self.facts.members[room].add if mover[1] else self.facts.members[room].discard)(moving)
        for (device, data, _), answer in zip(waiting, answers, strict=True):
            self.told(device, data, answer, moving=moving if data["to"].get("room") == room else None)

    def begin_move(self, room: int, user: int, *, is_in: bool) -> tuple[Phone, dict[str, Any], Asked | None]:
        """Begin to give a room other members."""
        phone = self.of_user(self.facts.creators[room])
        self.bring(phone)
        members = self.facts.members[room] | {user} if is_in else self.facts.members[room] - {user}
        change = {"id": room, "members": sorted(members)}
        return phone, change, phone.begin("room_change", change)

    def ended(self, phone: Phone, event: str, data: dict[str, Any], asked: Asked | None) -> dict[str, Any]:
        """The answer to an event that was sent, or to its repetition."""
        answer = self.settled(None if asked is None else asked.answer())
        return answer if answer is not None else self.insist(phone, event, data)

    def change(self, place: int, device: int, word: str | None, is_own: bool) -> None:
        """The sender changes or deletes a message that it sees, a room's admin deletes any; others are refused."""
        facts = self.facts
        if not facts.said:
            return
        facts.learn(self.world_spans())
        one = facts.said[sorted(facts.said)[place % len(facts.said)]]
        if is_own:
            device = next(at for at, (who, _) in enumerate(DEVICES) if self.ids[who] == one.sender)
        user = self.ids[DEVICES[device][0]]
        text = None if word is None else f"{word} changed {next(self.numbers)}"
        self.note(f"change {DEVICES[device]} {one.id} {text}")
        event, sent = ("delete", {"id": one.id}) if text is None else ("edit", {"id": one.id, "text": text})
        answer = self.insist(self.phones[device], event, sent)
        code = None if answer["ok"] else answer["error"]["code"]
        is_admin = one.room is not None and self.ids[facts.creators[one.room]] == user
        if not facts.sees(user, one):
            assert code == "bad_request"
        elif user != one.sender and not is_admin:
            assert code == "not_admin"
        elif one.text_for(user) is None:
            assert code == (None if text is None else "bad_request")
        else:
            assert code is None, answer
            self.changed(one, (user, DEVICES[device][1]), text)

    def changed(self, one: Said, by: tuple[int, str], text: str | None) -> None:
        """Note a change."""
        facts = self.facts
        is_blocked = one.user is not None and (one.user, one.sender) in facts.blocks
        if is_blocked and not one.is_withheld:
            one.own = (text,)
        else:
            one.own, one.is_deleted, one.text = None, text is None, text or one.text
        told = {by[0]} if is_blocked else {other for other in self.ids if facts.sees(other, one)}
        one.changes.append((told, by))

    # Rooms, blocks, receipts

    def move(self, room: int, user: int, is_in: bool) -> None:
        """A room's admin takes a user in or out."""
        id, members = self.rooms[room], self.facts.members[self.rooms[room]]
        if user == self.facts.creators[id]:
            return
        self.note(f"move {id} {self.ids[user]} {is_in}")
        after = members | {self.ids[user]} if is_in else members - {self.ids[user]}
        self.done(self.of_user(self.facts.creators[id]), "room_change", {"id": id, "members": sorted(after)})
        self.facts.members[id] = after

    def leave(self, room: int, user: int) -> None:
        """A member leaves by itself."""
        id, me = self.rooms[room], self.ids[user]
        if user == self.facts.creators[id]:
            return
        self.note(f"leave {id} {me}")
        answer = self.insist(self.of_user(user), "room_leave", {"id": id})
        assert answer["ok"] or answer["error"]["code"] == "not_member", answer
        self.facts.members[id].discard(me)

    def open_history(self, room: int) -> None:
        """The history of a room is opened to its members."""
        id = self.rooms[room]
        self.note(f"open_history {id}")
        self.done(self.of_user(self.facts.creators[id]), "room_change", {"id": id, "history": True})
        self.facts.histories.add(id)

    def block(self, user: int, other: int, is_blocked: bool) -> None:
        """A user blocks another, or takes that back."""
        if user == other:
            return
        pair = (self.ids[user], self.ids[other])
        self.note(f"block {pair} {is_blocked}")
        if is_blocked:
            self.facts.ever_blocked.add(pair)
        self.done(self.of_user(user), "contact", {"user": pair[1], "blocked": is_blocked})
        (self.facts.blocks.add if is_blocked else self.facts.blocks.discard)(pair)

    def read(self, device: int, most: int) -> None:
        """A device has read what it keeps."""
        phone, (user, name) = self.phones[device], DEVICES[device]
        self.bring(phone)
        phone.read()
        ids = sorted(id for id, one in phone.kept.items() if not one.get("deleted"))[-most:]
        if not ids:
            return
        self.note(f"read {DEVICES[device]} {ids}")
        self.facts.learn(self.world_spans())
        self.done(phone, "receipts", {"ids": ids, "state": "read"})
        me = self.ids[user]
        for one in (self.facts.said[id] for id in ids if id in self.facts.said):
            is_certain = (me, one.sender) not in self.facts.ever_blocked
            if one.sender != me and is_certain and self.facts.sees(me, one):
                self.facts.reads.add((one.id, me, name))

    # Connections and faults

    def cut(self, device: int, kind: Any) -> None:
        """A device goes away; it comes back on any node, perhaps by another transport."""
        self.note(f"cut {DEVICES[device]} {kind}")
        self.phones[device].leave()
        self.phones[device].kind = kind

    def synchronise(self, device: int, bytes: int) -> None:
        """A device takes one part of a synchronisation."""
        self.note(f"synchronise {DEVICES[device]} {bytes}")
        self.part(self.phones[device], bytes)

    def part(self, phone: Phone, bytes: int) -> bool:
        """One part; whether more follows."""
        part = self.done(phone, "sync", {"cursor": phone.cursor, "bytes": bytes})
        phone.keep(part)
        return bool(part["more"])

    def kill(self, part: str) -> None:
        """Something is killed, and stays down until somebody cannot do without it."""
        if part in self.world.parts:
            self.note(f"kill {part}")
            self.world.kill(part)

    def start(self, part: str) -> None:
        """Something is started again."""
        if part in self.world.down:
            self.note(f"start {part}")
            self.world.start(part)

    def disable(self, user: int) -> None:
        """An admin disables a user and takes that back: its sessions are void, and its messages wait for it."""
        self.note(f"disable {self.ids[user]}")
        for phone, (who, _) in zip(self.phones, DEVICES, strict=True):
            phone.may_be_void = phone.may_be_void or who == user
        for disabled in (True, False):
            self.done(self.root, "user_disable", {"id": self.ids[user], "disabled": disabled})
        for phone, (who, _) in zip(self.phones, DEVICES, strict=True):
            if who == user:
                phone.leave()

    def world_spans(self) -> dict[int, list[tuple[int, int, int | None]]]:
        """The memberships, for which the database is needed."""
        self.world.start("sql")
        return self.world.spans(self.rooms)

    def close(self) -> None:
        """End the devices."""
        for phone in (*self.phones, self.root):
            phone.close()

    def step(self, chance: random.Random) -> None:
        """Any step."""
        device, user = chance.randrange(len(DEVICES)), chance.choice(USERS)
        room, word = chance.randrange(2), chance.choice(WORDS)
        steps: list[tuple[int, Callable[[], None]]] = [
            (4, lambda: self.send(device, chance.choice(PLACES), word)),
            (5, lambda: self.any_burst(chance)),
            (
                3,
                lambda: self.change(chance.randrange(99), device, chance.choice((*WORDS, None)), chance.random() < 0.7),
            ),
            (3, lambda: self.move(room, user, chance.random() < 0.6)),
            (1, lambda: self.leave(room, user)),
            (1, lambda: self.open_history(room)),
            (2, lambda: self.block(user, chance.choice(USERS), chance.random() < 0.6)),
            (3, lambda: self.read(device, chance.randint(1, 5))),
            (2, lambda: self.cut(device, chance.choice(KINDS))),
            (2, lambda: self.synchronise(device, chance.choice((1_024, 4_000, 262_144)))),
            (3, lambda: self.kill(chance.choice(PARTS))),
            (1, lambda: self.start(chance.choice(PARTS))),
            (1, lambda: self.disable(user)),
        ]
        weights, doings = zip(*steps, strict=True)
        chance.choices(doings, weights)[0]()

    def any_burst(self, chance: random.Random) -> None:
        """Any burst, mostly with a fault."""
        sends = [
            (chance.randrange(len(DEVICES)), chance.choice(PLACES), chance.choice(WORDS))
            for _ in range(chance.randint(2, 10))
        ]
        mover = (chance.choice(USERS), chance.random() < 0.5) if chance.random() < 0.5 else None
        self.burst(sends, chance.choice((*PARTS, None)), chance.randrange(len(sends)), mover)
