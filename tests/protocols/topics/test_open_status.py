"""The bounds on requests without a key to an open /connections, /state or /memory."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import LimitReached, StoreUnavailable
from app.protocols.topics import open_status
from app.protocols.topics.open_status import MAX_A_SECOND, MOST_FRESH_A_SECOND, OpenStatus, SharedAnswers
from tests.support.waiting import until


def test_share_of_a_second() -> None:
    """Each site has its share of each second; past it a request is refused until the next second."""
    status = OpenStatus()
    for _ in range(MAX_A_SECOND):
        status.take("a", 1.2)
    with pytest.raises(LimitReached) as refused:
        status.take("a", 1.9)
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 1)
    status.take("b", 1.9)
    status.take("a", 2.0)


class Nodes:
    """The nodes that are asked. Lives for one test."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self) -> int:
        """Answers with the number of the question."""
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_answers_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests at once share one question, and past the fresh answers of a second the last one; the next second has
    fresh ones again."""
    monkeypatch.setattr(open_status, "KEPT_SECONDS", 1.0)
    nodes, answers = Nodes(), SharedAnswers[int]()
    first = [asyncio.ensure_future(answers.get("a", nodes.ask)) for _ in range(3)]
    await asyncio.sleep(0)
    first[0].cancel()
    nodes.may_answer.set()
    assert await asyncio.gather(*first[1:]) == [1, 1]
    assert [await answers.get("a", nodes.ask) for _ in range(5)] == [2, *[MOST_FRESH_A_SECOND] * 4]
    assert await answers.get("b", nodes.ask) == MOST_FRESH_A_SECOND + 1
    await until(lambda: not answers._asked, "the end of the second")
    assert await answers.get("a", nodes.ask) == MOST_FRESH_A_SECOND + 2


async def test_slow_answer_is_shared_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a question is under way no other is asked, however long it takes."""
    monkeypatch.setattr(open_status, "KEPT_SECONDS", 0.01)
    nodes, answers = Nodes(), SharedAnswers[int]()
    first = asyncio.ensure_future(answers.get("a", nodes.ask))
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, ended.set)
    await ended.wait()
    second = asyncio.ensure_future(answers.get("a", nodes.ask))
    await asyncio.sleep(0)
    nodes.may_answer.set()
    assert set(await asyncio.gather(first, second)) == {1}
    await until(lambda: not answers._asked, "the end")


async def test_errors_reach_the_caller() -> None:
    """A question that failed is asked again by the next request."""
    nodes, answers = Nodes(), SharedAnswers[int]()
    nodes.may_answer.set()
    nodes.error = StoreUnavailable()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await answers.get("a", nodes.ask)
    nodes.error = None
    assert await answers.get("a", nodes.ask) == 3
