"""The counts of a run: what counts once, what does not count, and the totals of all."""

from __future__ import annotations

import pytest

from app.errors import RequestRefused
from app.load.chat_tally import ChatTally
from app.load.operations import rows_of
from app.load.plan import MAX_DELIVERIES, MAX_MESSAGES, LoadPlan
from app.load.tally import Tally


def test_the_totals() -> None:
    """Counts, rates and times come from what was sent, stored and delivered; the sum of the counts is operations."""
    tally = Tally(LoadPlan(devices=2, messages=1), nodes=3)
    for message in (0, 1):
        tally.begin(message, 10.0)
        tally.accepted(message, 2, 10.010)
        assert not tally.arrived(0, message, 10.020)
        assert tally.arrived(1, message, 10.040)
    tally.receipts, tally.receipts_stored = 4, 3
    totals = tally.totals(2.0)
    counts = {"received": 2, "forwarded": 6, "sent": 4, "stored": 4, "receipts_received": 4, "receipts_stored": 3}
    assert totals["counts"] == {**counts, "operations": 23}
    assert totals["per_second"]["sent"] == 2.0
    assert totals["delivery_ms"] == {"average": 30.0, "least": 20.0, "most": 40.0, "p50": 20.0, "p99": 40.0}
    assert totals["store_ms"]["average"] == 10.0
    assert totals["notify_ms"] == {"average": 20.0, "least": 10.0, "most": 30.0, "p50": 10.0, "p99": 30.0}
    assert (totals["refused"], totals["lost"]) == (0, 0)


def test_a_messenger() -> None:
    """A message to a room of three users at devices of three processes is thirteen operations."""
    tally = ChatTally(LoadPlan(devices=3, messages=2), nodes=3)
    for message in (0, 1):
        tally.begin(message, 10.0)
        tally.accepted(message, 0, 10.010)
        assert [tally.arrived(device, message, 10.020) for device in (1, 2)] == [False, True]
    tally.receipts, tally.told = 4, 3
    assert tally.missing == 1
    tally.told = 4
    totals = tally.totals(2.0)
    counts = {"received": 2, "stored": 2, "forwarded": 6, "sent": 4}
    receipts = {"receipts_received": 4, "receipts_stored": 4, "receipts_told": 4}
    assert totals["counts"] == {**counts, **receipts, "operations": 2 * 13}
    assert (totals["per_second"]["operations"], totals["lost"], tally.missing) == (13.0, 0, 0)


def test_what_does_not_count() -> None:
    """A repeat, a number that no message has, and one that nobody has sent do not count; a missing one is lost."""
    tally = Tally(LoadPlan(devices=1, messages=3), nodes=1)
    for message in (0, 1):
        tally.begin(message, 0.0)
        tally.accepted(message, 1, 0.0)
    assert tally.arrived(0, 0, 1.0)
    assert [tally.arrived(0, message, 1.0) for message in (0, 2, 3, -1)] == [False] * 4
    totals = tally.totals(1.0)
    assert (totals["counts"]["sent"], totals["lost"]) == (1, 1)


def test_a_message_before_its_answer() -> None:
    """A message that arrives before the answer to its sender took no time to notify."""
    tally = Tally(LoadPlan(devices=1, messages=1), nodes=1)
    tally.begin(0, 0.0)
    assert tally.arrived(0, 0, 0.5)
    tally.accepted(0, 1, 0.6)
    totals = tally.totals(1.0)
    assert (totals["notify_ms"]["most"], totals["delivery_ms"]["most"]) == (0.0, 500.0)


def test_nothing_happened() -> None:
    """A run in which nothing was sent has counts of zero and no times."""
    totals = Tally(LoadPlan(), nodes=1).totals(0.0)
    assert set(totals["counts"].values()) == {0}
    assert totals["delivery_ms"] is None


@pytest.mark.parametrize(("devices", "messages", "is_refused"), [(10, 10, False), (500, 100, True), (200, 60, True)])
def test_a_run_is_bounded_as_a_whole(devices: int, messages: int, is_refused: bool) -> None:
    """Devices and messages that are allowed alone may be too many together: of messages, or of deliveries."""
    plan = LoadPlan(devices=devices, messages=messages)
    assert (plan.total > MAX_MESSAGES or plan.total * devices > MAX_DELIVERIES) is is_refused
    if is_refused:
        with pytest.raises(RequestRefused, match="devices, messages: expected at most 30000 messages"):
            plan.check()
    else:
        plan.check()


def test_a_comparison() -> None:
    """Two runs stand side by side with the change in percent; a total that one lacks is empty."""
    first = {"per_second": {"sent": 100.0, "received": 0.0}, "delivery_ms": {"p99": 10.0}}
    second = {"per_second": {"sent": 150.0, "received": 5.0}, "delivery_ms": None}
    rows = {row["total"]: row for row in rows_of(first, second)}
    assert rows["per_second.sent"] == {
        "total": "per_second.sent",
        "first": 100.0,
        "second": 150.0,
        "change_percent": 50.0,
    }
    assert rows["per_second.received"]["change_percent"] is None
    assert rows["delivery_ms.p99"]["second"] is None
    assert all(row["first"] is None for row in rows_of(None, None))
