"""Questions about a node's streams: many at once are answered over many turns of the loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator
from typing import Any, cast

import msgspec
import pytest

from app.config.settings import Site
from app.core.delivery import Delivery
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.protocols.topics.index import Group
from app.protocols.topics.inspection import Inspection, _decoded, _summed
from app.protocols.topics.notice import Question
from app.protocols.topics.settings import Topics
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.slices import UNITS_A_TURN, Slices
from app.protocols.topics.topic_store import TopicStore
from tests.protocols.topics.conftest import topics_site
from tests.support.waiting import until

SITE = topics_site(topics=Topics())


class Answers:
    """Takes the answers to other nodes, and notes the cost of making them in each turn. Lives for one test."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.costs: Counter[int] = Counter()
        self.largest = 0
        self._turn = 0
        self._counting = asyncio.create_task(self._count())

    async def answer(self, _site: Site, _question: str, answer: bytes) -> None:
        """Keep an answer."""
        self.answers.append(answer)

    def noted(self, steps: Generator[int, None, bytes]) -> Generator[int, None, bytes]:
        """The same work, whose cost is noted."""
        while True:
            try:
                cost = next(steps)
            except StopIteration as end:
                return cast(bytes, end.value)
            self.costs[self._turn] += cost
            self.largest = max(self.largest, cost)
            yield cost

    def end(self) -> None:
        """Count no more turns."""
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._turn += 1


@pytest.mark.parametrize(("about", "largest"), [("state", 250), ("original state", 2_000)])
async def test_many_questions_at_once(monkeypatch: pytest.MonkeyPatch, about: str, largest: int) -> None:
    """A node with many topics answers questions with the budget of a turn, whatever number comes at once."""
    topics = SiteTopics(SITE, Counts([SITE.name]).of(SITE.name))
    for number in range(2_000):
        group = topics.index._exact[f"a/{number}"] = Group(f"a/{number}")
        group.plain = cast(Any, {None: {number: None}})
    store = Answers()
    slices = Slices(lambda site: None, Counter())
    inspection = Inspection(cast(Delivery, None), cast(TopicStore, store), FlakeIds(0, 1), "node", slices)
    answer_to = inspection._answer_to
    monkeypatch.setattr(inspection, "_answer_to", lambda *asked: store.noted(answer_to(*asked)))
    for number in range(20):
        inspection.question_asked(topics, Question(str(number), about))
    await until(lambda: len(store.answers) == 20, "the answers")
    store.end()
    assert sum(store.costs.values()) >= 20 * 2_000
    assert store.largest <= largest
    assert max(store.costs.values()) <= UNITS_A_TURN + largest
    assert len(msgspec.json.decode(store.answers[0])["topics"]) == 2_000


def test_answers_are_decoded_and_summed_in_steps() -> None:
    """Each answer of another node is a step of its own, at a cost that grows with it."""
    answer = msgspec.json.encode({"clients": {}, "topics": {f"a/{number}": 1 for number in range(5_000)}})
    steps = _decoded([answer] * 3)
    assert [next(steps) for _ in range(3)] == [len(answer) // 200] * 3
    costs = list(_summed([msgspec.json.decode(answer)] * 3))
    assert max(costs) >= UNITS_A_TURN
