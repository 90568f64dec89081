"""The noted number of a node's subscribers: one note for many changes, also after an outage, and none at the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.core.errands import Errands
from app.errors import StoreUnavailable
from app.protocols.channels import headcount
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore
from app.protocols.channels.headcount import Headcount
from tests.support.store import make_site
from tests.support.waiting import until


class Notes:
    """A store that records the notes; it fails while `is_away`. Lives for one test."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.is_away = False

    async def note_subscribers(self, site: object, count: int) -> None:
        """Records a note."""
        if self.is_away:
            raise StoreUnavailable
        self.numbers.append(count)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes follow a change without a pause."""
    monkeypatch.setattr(headcount, "NOTE_AFTER_SECONDS", 0)


def counted(notes: Notes) -> tuple[Headcount, dict[str, Any], Errands]:
    """The count of a board, and the subscribers on it."""
    board = SimpleNamespace(subscribers={}, site=make_site())
    errands = Errands()
    count = Headcount(cast("Board", board), cast("ChannelStore", notes), errands)
    return count, board.subscribers, errands


async def test_many_changes_are_one_note() -> None:
    """Changes of one moment are noted once, and a change back not at all."""
    notes = Notes()
    count, subscribers, errands = counted(notes)
    for number in range(10):
        subscribers[str(number)] = None
        count.changed()
    await until(lambda: notes.numbers == [10], "the note")
    subscribers["x"] = None
    count.changed()
    del subscribers["x"]
    count.changed()
    await asyncio.sleep(0)
    await errands.drain()
    assert notes.numbers == [10]


async def test_an_outage_leaves_the_last_number() -> None:
    """After an outage the number of its end is noted, once."""
    notes = Notes()
    notes.is_away = True
    count, subscribers, _ = counted(notes)
    for number in range(5):
        subscribers[str(number)] = None
        count.changed()
        await asyncio.sleep(0)
    notes.is_away = False
    await until(lambda: notes.numbers == [5], "the note")


async def test_a_lost_number_is_noted_again() -> None:
    """When Redis may have lost the number, the same number is noted again; a site without subscribers costs nothing."""
    notes = Notes()
    count, subscribers, errands = counted(notes)
    count.restore()
    await asyncio.sleep(0)
    await errands.drain()
    assert notes.numbers == []
    subscribers["a"] = None
    count.changed()
    await until(lambda: notes.numbers == [1], "the note")
    count.restore()
    await until(lambda: notes.numbers == [1, 1], "the note")


async def test_the_end() -> None:
    """At the end the node has no subscribers, though some are still connected; later changes are not noted."""
    notes = Notes()
    count, subscribers, errands = counted(notes)
    subscribers["a"] = None
    count.changed()
    await until(lambda: notes.numbers == [1], "the note")
    count.end()
    count.changed()
    await errands.drain()
    assert notes.numbers == [1, 0]
