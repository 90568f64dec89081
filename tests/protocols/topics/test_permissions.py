"""The registrations of an event's binded topics: read in parts, decoded in slices, and bounded together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest

from app.config.settings import Site
from app.errors import BadRequest
from app.protocols.topics import permissions as module
from app.protocols.topics import slices
from app.protocols.topics.passwords import Passwords
from app.protocols.topics.permissions import Permissions
from app.protocols.topics.registry import TopicRegistration, pack
from app.protocols.topics.requests import Target
from app.protocols.topics.slices import Slices, Steps
from app.protocols.topics.topic_store import TopicStore
from tests.protocols.topics.conftest import topics_site

SITE = topics_site()


class Registry:
    """The registrations of a site in memory, and slices that note the cost of each turn. Lives for one test."""

    def __init__(self, **registered: TopicRegistration) -> None:
        self._registered = {name: pack(registration) for name, registration in registered.items()}
        #: The numbers of topics that were asked for at once.
        self.asked: list[int] = []
        self.slices = Slices(lambda site: None, Counter())
        self.permissions = Permissions(cast(TopicStore, self), self.slices, Passwords())

    async def registrations(self, site: Site, topics: Sequence[str]) -> list[bytes | None]:
        """Answer as the store does."""
        self.asked.append(len(topics))
        return [self._registered.get(topic) for topic in topics]


def registration(users: int = 0, **more: str) -> TopicRegistration:
    """A registration to which everybody may publish, with so many listeners."""
    return TopicRegistration("boss", ("*",), tuple(f"user {number}" for number in range(users)), **more)


def binded(*topics: str) -> list[Target]:
    """Targets that are binded."""
    return [Target(topic, is_binded=True) for topic in topics]


async def test_listeners() -> None:
    """The owner and the users in `sub` may listen to a binded topic; another topic has no listeners of its own."""
    registry = Registry(a=registration(2), b=registration())
    a, b, c = await registry.permissions.emitted(SITE, [*binded("a", "b"), Target("c", 7)], None)
    assert a.listeners is not None
    assert b.listeners is not None
    assert [sorted(listeners.names) for listeners in (a.listeners, b.listeners)] == [
        ["boss", "user 0", "user 1"],
        ["boss"],
    ]
    assert (c.listeners, c.whisper) == (None, 7)
    assert await registry.permissions.emitted(SITE, [Target("c")], None)
    assert registry.asked == [2]


async def test_registrations_are_decoded_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many long registrations are asked for in parts, and each is decoded with the budget of a turn, which all
    requests share."""
    size = len(pack(registration(1_000)))
    monkeypatch.setattr(slices, "UNITS_A_TURN", size // module._BYTES_OF_UNIT)
    names = [f"t{number}" for number in range(20)]
    registry = Registry(**{name: registration(1_000) for name in names})
    turns: Counter[int] = Counter()
    turn = 0
    take = module._Reading.take

    def counted(reading: module._Reading, name: str, packed: bytes | None) -> Steps:
        steps = take(reading, name, packed)
        for cost in steps:
            turns[turn] += 1
            yield cost

    async def count() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    monkeypatch.setattr(module._Reading, "take", counted)
    counting = asyncio.create_task(count())
    await asyncio.gather(*(registry.permissions.emitted(SITE, binded(*names), None) for _ in range(5)))
    counting.cancel()
    assert sum(turns.values()) == 5 * 20
    assert max(turns.values()) == 1
    assert max(registry.asked) == 8


async def test_too_many_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """The users of an event's topics are bounded together, in the registry and in what is told to the nodes; one topic
    alone may always be emitted to."""
    monkeypatch.setattr(module, "MAX_BYTES", len(pack(registration(100))) + 100)
    long = TopicRegistration("boss", ("*", *(f"user {number}" for number in range(100))))
    registry = Registry(
        a=registration(100), b=registration(100), c=registration(1_000), d=registration(), e=long, f=long
    )
    for alone in ("a", "b", "c"):
        assert await registry.permissions.emitted(SITE, binded(alone), None)
    assert await registry.permissions.emitted(SITE, binded("a", "d"), None)
    for many in (["a", "b"], ["a", "a"], ["d", "c"], ["e", "f"]):
        with pytest.raises(BadRequest, match="too many users") as refused:
            await registry.permissions.emitted(SITE, binded(*many), None)
        assert refused.value.status == 400


@pytest.mark.parametrize("name", ["unknown", "closed", "locked"])
async def test_not_allowed(name: str) -> None:
    """The refusal is the same for an unknown topic, a topic of others and a wrong password; no further registration is
    asked for."""
    closed = TopicRegistration("boss")
    locked = registration(password_hash="AAAA.AAAA")
    registry = Registry(closed=closed, locked=locked, **{f"t{number}": registration() for number in range(20)})
    with pytest.raises(BadRequest, match=f"Topic '{name}': not allowed to publish.") as refused:
        await registry.permissions.emitted(SITE, binded(name, *(f"t{number}" for number in range(20))), "me")
    assert refused.value.status == 403
    assert len(registry.asked) == (3 if name == "locked" else 1)
