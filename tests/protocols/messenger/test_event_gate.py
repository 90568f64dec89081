"""The bounds of the events of one connection."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from app.protocols.messenger.answers import ChatRefusal, NoData
from app.protocols.messenger.bounds import MAX_EVENTS_WAITING
from app.protocols.messenger.event_gate import EventGate, WaitingEvent
from app.protocols.messenger.handlers import Handler


async def _handle(caller: Any, data: Any) -> None:
    """An event that is never handled here."""


def allowed(gate: EventGate, now: float, rate: float, tries: int = 1_000) -> int:
    """How many events pass at this time."""
    passed: list[int] = []
    with contextlib.suppress(ChatRefusal):
        for number in range(tries):
            gate.count(now, rate)
            passed.append(number)
    return len(passed)


@pytest.mark.parametrize(("rate", "at_once"), [(50, 100), (0.1, 1), (3, 6)])
def test_the_rate(rate: float, at_once: int) -> None:
    """Two seconds' worth of events pass at once, one at the least; then as many as the rate has."""
    gate = EventGate()
    assert allowed(gate, 1_000.0, rate) == at_once
    assert allowed(gate, 1_000.0 + 1 / rate, rate) == 1
    assert allowed(gate, 2_000.0, rate) == at_once


def test_events_that_wait() -> None:
    """An event too many without an answer is refused, whatever the rate."""
    gate = EventGate()
    gate.waiting.extend([WaitingEvent("x", Handler(NoData, _handle), NoData(), None)] * (MAX_EVENTS_WAITING - 1))
    gate.count(1.0, 10)
    gate.waiting.append(gate.waiting[0])
    with pytest.raises(ChatRefusal) as refused:
        gate.count(100.0, 10)
    assert refused.value.code == "too_many"


def test_events_under_way_together() -> None:
    """Events in a row that may be under way together are taken together, others one by one; all of them count."""
    gate = EventGate()
    grouped, single = Handler(NoData, _handle, is_grouped=True), Handler(NoData, _handle)
    kinds = [grouped, grouped, single, single, grouped]
    gate.waiting.extend(WaitingEvent(str(number), kind, NoData(), None) for number, kind in enumerate(kinds))
    taken = []
    while gate.waiting:
        taken.append([event.name for event in gate.take()])
    assert taken == [["0", "1"], ["2"], ["3"], ["4"]]
    gate.waiting.extend([WaitingEvent("x", grouped, NoData(), None)] * MAX_EVENTS_WAITING)
    assert len(gate.take()) == MAX_EVENTS_WAITING
    with pytest.raises(ChatRefusal, match="without an answer"):
        gate.count(1.0, 10)
