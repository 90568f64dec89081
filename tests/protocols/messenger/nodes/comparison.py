"""The comparison at the end of a run: histories, searches, synchronisations, events and receipts with the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.protocols.messenger.nodes.phone import Phone
from tests.protocols.messenger.nodes.run import DEVICES, USERS, WORDS, NodesRun
from tests.protocols.messenger.nodes.world import SITE
from tests.support.waiting import eventually

_SETTLE_SECONDS = 60.0


class ComparedRun(NodesRun):
    """A run that ends with a comparison. Lives until `end`."""

    def end(self) -> None:
        """Everything is started again; then everything agrees."""
        try:
            self.compare()
        except BaseException:
            print("\n".join([*self.world.story(), *self.steps]))
            raise
        finally:
            self.close()

    def compare(self) -> None:
        """Wait until all is told, and compare."""
        self.world.heal(are_all=True)
        for phone in self.phones:
            self.bring(phone)
        facts = self.facts
        facts.learn(self.world_spans())
        eventually(self.world.is_handed_on, "the outbox to be handed on", _SETTLE_SECONDS, 0.1)
        for device in range(len(DEVICES)):
            self.wait_for(partial(self.lost_by, device), f"the messages of {DEVICES[device]}")
        for user in USERS:
            self.compare_user(user)
        for device in range(len(DEVICES)):
            self.compare_device(device)
        self.compare_members()
        assert self.world.sent_twice() == []
        assert self.world.faults() == []

    def wait_for(self, missing: Callable[[], Any], what: str) -> None:
        """Wait until nothing is missing."""
        try:
            eventually(lambda: not missing(), what, _SETTLE_SECONDS, 0.1)
        except AssertionError:
            raise AssertionError(f"waited for {what}; missing: {missing()}") from None

    def lost_by(self, device: int) -> set[int]:
        """The messages that a device has to get as events and has not got."""
        phone, me = self.phones[device], (self.ids[DEVICES[device][0]], DEVICES[device][1])
        self.bring(phone)
        phone.read()
        if phone.was_lost:
            return set()
        due = {
            one.id
            for one in self.facts.said.values()
            if me in one.devices and self.facts.was_for(me[0], one) and me != (one.sender, one.device)
        }
        return due - phone.live.keys()

    def due_receipts(self, user: int) -> dict[tuple[int, int, str], str]:
        """The receipts that a user has to get: of every device that was told of a message as an event, and of those
        that have read it."""
        facts, me = self.facts, self.ids[user]
        due: dict[tuple[int, int, str], str] = {}
        for phone, (who, name) in zip(self.phones, DEVICES, strict=True):
            other = self.ids[who]
            if other == me or phone.was_lost or (other, me) in facts.ever_blocked:
                continue
            for id in phone.arrived:
                one = facts.said[id]
                if one.sender == me and facts.sees(me, one):
                    due[id, other, name] = "delivered"
        for id, other, name in facts.reads:
            one = facts.said[id]
            if one.sender == me and facts.sees(me, one):
                due[id, other, name] = "read"
        return due

    def compare_user(self, user: int) -> None:
        """History, search and a synchronisation from the begin show what the model sees, in one order, and all
        receipts."""
        me, seen, phone = self.ids[user], self.facts.seen(self.ids[user]), self.of_user(user)
        for to in [*({"user": other} for other in self.ids), *({"room": room} for room in self.rooms)]:
            if "room" in to and me not in self.facts.members[to["room"]]:
                continue
            found = self.done(phone, "history", {"with": to, "limit": 200})["messages"]
            here = [
                one
                for one in self.facts.said.values()
                if self.facts.in_conversation(one, me, to.get("user"), to.get("room"))
            ]
            expected = {one.id: seen[one.id] for one in here if one.id in seen}
            assert [one["id"] for one in found] == sorted(expected, reverse=True)
            assert {one["id"]: one.get("text") for one in found} == expected
        for word in WORDS:
            found = self.done(phone, "search", {"text": word, "limit": 200})["messages"]
            by_index = {one.id for one in self.facts.said.values() if not one.is_deleted and one.text.startswith(word)}
            assert {one["id"] for one in found} == by_index & seen.keys()
        self.wait_for(lambda: self.missing_receipts(user), f"the receipts of {me}")
        fresh = self.fresh(user)
        expected = {id: text for id, text in seen.items() if text is not None}
        assert {id: one["text"] for id, one in fresh.kept.items()} == expected, f"{me} gets something else"

    def fresh(self, user: int) -> Phone:
        """The content of a new client by `sync` alone."""
        phone, new = self.of_user(user), Phone(self.clients, SITE, "", "", lambda: None)
        more = True
        while more:
            part = self.done(phone, "sync", {"cursor": new.cursor, "bytes": 262_144})
            new.keep(part)
            more = part["more"]
        return new

    def missing_receipts(self, user: int) -> list[Any]:
        """The receipts that a synchronisation from the begin does not have."""
        due, got = self.due_receipts(user), self.fresh(user).receipts
        return [(key, state, got.get(key)) for key, state in due.items() if got.get(key) not in (state, "read")]

    def compare_device(self, device: int) -> None:
        """A device that goes on from its cursor has what it sees; its events were all for it, came in order, and tell
        the same as a synchronisation."""
        phone, me = self.phones[device], (self.ids[DEVICES[device][0]], DEVICES[device][1])
        facts, user = self.facts, me[0]
        seen = facts.seen(user)
        while self.part(phone, 262_144) or self.part(phone, 262_144):
            pass
        phone.read()
        for id in phone.arrived:
            assert facts.was_for(user, facts.said[id]), f"{id} was not for {user}"
        for id in phone.live.keys() - set(phone.arrived):
            assert facts.was_for(user, facts.said[id]) or facts.said[id].changes, f"{id} was not for {user}"
        assert phone.arrived == sorted(phone.arrived)
        kept = {id: one.get("text") for id, one in phone.kept.items()}
        wrong = [(id, text, kept.get(id)) for id, text in seen.items() if kept.get(id) != text]
        assert wrong == [], f"{me} keeps something else: {wrong}"
        for id in phone.kept.keys() - seen.keys():
            assert id in phone.live, f"{id} came to {user} without being seen"
        if phone.was_lost:
            return
        for id in phone.arrived:
            one = facts.said[id]
            if id in seen and all(user in told and by != me for told, by in one.changes):
                assert phone.live[id].get("text") == seen[id], f"the events about {id}"
        due = self.due_receipts(DEVICES[device][0])
        self.wait_for(lambda: self.untold_receipts(phone, due), f"the receipts told to {DEVICES[device]}")
        assert {key: phone.receipts.get(key) for key in due} == {key: phone.live_receipts.get(key) for key in due}

    def untold_receipts(self, phone: Phone, due: dict[tuple[int, int, str], str]) -> list[Any]:
        """The receipts that a device was not told as events."""
        self.bring(phone)
        phone.read()
        got = phone.live_receipts
        return [(key, state) for key, state in due.items() if got.get(key) not in (state, "read")]

    def compare_members(self) -> None:
        """Of each room the members with an open history see the same."""
        for room in self.rooms:
            histories = []
            for user in USERS:
                if self.ids[user] in self.facts.members[room] and room in self.facts.histories:
                    found = self.done(self.of_user(user), "history", {"with": {"room": room}, "limit": 200})
                    histories.append(found["messages"])
            assert all(one == histories[0] for one in histories)
