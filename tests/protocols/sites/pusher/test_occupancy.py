"""The connections in rooms, over several nodes and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from app.errors import RequestRefused, StoreAway
from app.protocols.sites.pusher import occupancy
from app.protocols.sites.pusher.occupancy import MOST_CHANNEL_QUESTIONS, Occupancy
from tests.protocols.sites.crew import Crew
from tests.protocols.sites.door import DECODED, PUSHED

SITES = {site.name: site for site in (PUSHED, DECODED)}


@dataclass
class Member:
    """A connection."""

    rooms: Sequence[str]


class Node:
    """A node with connections, and its crew: itself and others. Lives for one test."""

    def __init__(self, *rooms: Sequence[str], others: Sequence[Node] = ()) -> None:
        self.members = [Member(names) for names in rooms]
        self.crew = Crew()
        self.occupancy = Occupancy(self.crew, SITES, self.live)
        self._others = others
        self._own_ask, self.crew.ask_all = self.crew.ask_all, self.ask_all  # type: ignore[method-assign]

    def live(self, site: str) -> Iterator[Member]:
        """The connections."""
        return iter(self.members if site == PUSHED.name else [])

    async def ask_all(self, verb: str, given: object) -> tuple[dict[str, object], dict[str, str]]:
        """The answers of all nodes."""
        answers, silent = await self._own_ask(verb, given)
        for number, node in enumerate(self._others):
            found, _ = await node.crew.ask_all(verb, given)
            answers[f"other{number}"] = found["n1"]
        return answers, silent


async def test_nodes_are_added_up() -> None:
    """Connections are added; a user on two nodes is one user; rooms are the same in any case."""
    other = Node(["user_1", "A"], ["user_2", "a", "b"])
    node = Node(["user_1", "a"], ["user_1", "a", "A"], ["user_3", "a"], others=[other])
    found = await node.occupancy.ask(PUSHED, ["A", "b", "c"], with_users=True)
    assert {name: (facts.subscriptions, facts.users) for name, facts in found.items()} == {
        "a": (5, {"1", "2", "3"}),
        "b": (1, {"2"}),
    }
    found = await node.occupancy.ask(PUSHED, None)
    assert {name: (facts.subscriptions, facts.users) for name, facts in found.items()} == {
        "a": (5, set()),
        "b": (1, set()),
    }
    assert await node.occupancy.ask(PUSHED, None, "B") == {"b": found["b"]}
    assert not await node.occupancy.ask(DECODED, None)


async def test_rooms_of_single_users_are_no_channels() -> None:
    """They are in no list, and are found by their name; the public channel is a room of many."""
    node = Node(["user_1", "public"])
    assert list(await node.occupancy.ask(PUSHED, None)) == ["public"]
    assert list(await node.occupancy.ask(PUSHED, ["user_1"])) == ["user_1"]


async def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with more channels, or with more users in them, than one answer has refuses; so does a site with too many
    questions."""
    monkeypatch.setattr(occupancy, "MOST_LISTED_CHANNELS", 3)
    monkeypatch.setattr(occupancy, "MOST_LISTED_USERS", 3)
    node = Node(*([f"user_{number}", "a", f"b{number % 3}"] for number in range(4)))
    with pytest.raises(RequestRefused, match="Expected at most 3 channels and 3 users on one node"):
        await node.occupancy.ask(PUSHED, None)
    assert len(await node.occupancy.ask(PUSHED, None, "b")) == 3
    with pytest.raises(RequestRefused, match="Expected at most 3 channels"):
        await node.occupancy.ask(PUSHED, ["a"], with_users=True)
    node.crew.gate = asyncio.Event()
    tasks = [asyncio.create_task(node.occupancy.ask(PUSHED, None, "b")) for _ in range(MOST_CHANNEL_QUESTIONS)]
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused, match="Too many questions") as caught:
        await node.occupancy.ask(PUSHED, None, "b")
    assert caught.value.status == 429
    node.crew.gate.set()
    assert len(await asyncio.gather(*tasks)) == MOST_CHANNEL_QUESTIONS


async def test_many_rooms_take_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections with many rooms count as more in a turn of the event loop. A node looks no longer at them than the
    other one waits, which may ask again."""
    rooms = [f"room{number}" for number in range(1000)]
    node, turns = Node(*[rooms] * 100), 0
    looking = asyncio.create_task(node.occupancy.answer({"site": PUSHED.name}))
    while not looking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 8
    found = await looking
    assert isinstance(found, dict)
    assert found["room7"].subscriptions == 100
    monkeypatch.setattr(occupancy, "_QUESTION_SECONDS", 0.0)
    assert isinstance(await Node(*[rooms] * 100).occupancy.answer({"site": PUSHED.name}), str)


async def test_nodes_that_do_not_answer() -> None:
    """A number without a node would be wrong: it is 503 then."""
    node = Node(["user_1", "a"])
    node.crew.silent = {"n2": "silent"}
    with pytest.raises(RequestRefused, match="Not every node has answered") as caught:
        await node.occupancy.ask(PUSHED, None)
    assert caught.value.status == 503
    node.crew.is_away = True
    with pytest.raises(StoreAway):
        await node.occupancy.ask(PUSHED, None)


async def test_a_site_that_is_not_served_here() -> None:
    """A node that does not know the site has no connections of it."""
    node = Node(["a"])
    assert await node.occupancy.answer({"site": "gone"}) == {}
