"""Errands: retried while Redis is away, never after a refusal, and awaited at the end."""

import pytest

from app.core import errands
from app.core.errands import Errands
from app.errors import StoreError, StoreUnavailable


class Store:
    """Fails as often as the test says, then answers. Lives for one test."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def ask(self) -> str:
        """Once more."""
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "_RETRY_SECONDS", (0.0, 0.001))


async def test_repeats_while_the_store_is_away() -> None:
    """A command is retried until Redis has taken it; its answer is handed on."""
    store = Store(*[StoreUnavailable() for _ in range(4)])
    assert (await Errands().until_stored(store.ask), store.asked) == ("done", 5)


async def test_what_the_store_refuses_is_not_repeated() -> None:
    """A refusal ends the errand, because a retry would not help; others go on, and `drain` waits for all."""
    work = Errands()
    refused, slow = Store(StoreError("no")), Store(*[StoreUnavailable() for _ in range(3)])
    for store in (refused, slow):
        work.start(work.until_stored(store.ask))
    await work.drain()
    assert (refused.asked, slow.asked) == (1, 4)
