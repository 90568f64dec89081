"""The deadlines of a client that does not read its answer, step by step; with a transport that plays the client."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from app.transport import http_unread, refusals
from app.transport.http_unread import ReadWatch
from tests.support.waiting import until


class Line:
    """A transport whose client takes so many bytes between two looks. Lives for one test."""

    def __init__(self, *left: int) -> None:
        """Take the sizes of the buffer, one for each look; the last one stays."""
        self.left = list(left)
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        """The next size."""
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def abort(self) -> None:
        """The client is cut off."""
        self.is_aborted = True


def watch(line: Line) -> ReadWatch:
    """A watch over the line."""
    return ReadWatch(cast(asyncio.Transport, cast(Any, line)))


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a moment."""
    monkeypatch.setattr(http_unread, "UNREAD_SECONDS", 0.001)


async def test_a_client_on_a_slow_line_is_waited_for() -> None:
    """As long as some bytes are taken within each deadline, nobody is cut off."""
    line = Line(9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
    watch(line)
    await until(lambda: line.left == [0], "the end of the answer")
    assert not line.is_aborted


async def test_a_client_that_stops_is_cut_off() -> None:
    """A client that took bytes, and takes none for the length of a deadline, is cut off and counted."""
    line = Line(9, 8, 7, 7)
    before = refusals.refused[refusals.ANSWER_UNREAD]
    watch(line)
    await until(lambda: line.is_aborted, "the end of its patience")
    assert refusals.refused[refusals.ANSWER_UNREAD] == before + 1


async def test_a_watch_that_is_cancelled() -> None:
    """Nothing happens behind the end of a watch."""
    line, other = Line(9, 9), Line(9, 9)
    watch(line).cancel()
    watch(other)
    await until(lambda: other.is_aborted, "the other")
    assert not line.is_aborted
