"""The outcomes of a canary: the share and the slowest of the last hour, and the counts since the start."""

from __future__ import annotations

import pytest

from app.canary import record as record_module
from app.canary.record import CanaryRecord, Stuck


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the record."""
    clock = Clock()
    monkeypatch.setattr(record_module, "monotonic", clock)
    return clock


def test_nothing_is_known_before_the_first() -> None:
    """Before the first message there is neither a share nor a time, and the canary counts as well."""
    record = CanaryRecord()
    assert (record.share(), record.slowest_percent(), record.sent, record.is_well) == (None, None, 0, True)


def test_the_last_message_decides_the_notice() -> None:
    """The canary is well again with the next message that arrives."""
    record = CanaryRecord()
    record.note_missed(Stuck.NOT_ACCEPTED)
    assert (record.is_well, record.share(), record.slowest_percent()) == (False, 0.0, None)
    record.note_delivered(0.25)
    assert (record.is_well, record.share(), record.slowest_percent()) == (True, 0.5, 0.25)
    assert record.missed == {"not accepted": 1}


def test_the_99th_percentile() -> None:
    """Of 200 times two are longer than the 99th percentile."""
    record = CanaryRecord()
    for number in range(200):
        record.note_delivered(number / 1000)
    assert record.slowest_percent() == 0.197


def test_an_hour_is_remembered(clock: Clock) -> None:
    """A message older than an hour no longer counts in the share; the counts keep it."""
    record = CanaryRecord()
    record.note_missed(Stuck.NOT_WRITTEN)
    clock.now += 3000
    record.note_delivered(0.1)
    assert record.share() == 0.5
    clock.now += 1000
    assert record.share() == 1.0
    assert (record.sent, record.missed["not written"]) == (2, 1)
    clock.now += 3600
    assert record.share() is None


def test_memory_is_bounded() -> None:
    """However many messages there are, a bounded number of outcomes is kept."""
    record = CanaryRecord()
    for _ in range(5000):
        record.note_delivered(0.1)
    assert len(record._outcomes) == 1000
    assert record.sent == 5000
