"""Samples: what has happened in each site since the sample before."""

from __future__ import annotations

from typing import Any

import pytest

from app.journal import samples
from app.journal.samples import SampleSeries
from app.observe.counts import Counts, QueueSample


def rows_at(series: SampleSeries, now_seconds: int) -> dict[str | None, dict[str, Any]]:
    """The figures of one round by site; those of the node are at None."""
    return {row.get("site"): row["figures"] for row in series.round(now_seconds) if row is not None}


def test_a_sample_holds_what_is_new() -> None:
    """Counts are those since the sample before, states those of now; the node's sample is the sum of all sites."""
    counts = Counts(["a", "b"])
    series = SampleSeries(counts, 10)
    counts.of("a").connects.update(accepted=3, refused=2)
    counts.of("a").connections = 3
    counts.of("b").sends = 4
    counts.of("b").queues = QueueSample(devices=10, sampled=5, messages=20, longest=9, oldest_seconds=1)
    first = rows_at(series, 1_000)
    assert first["a"] == {"connects": 3, "refusals": 2, "connections": 3}
    assert first["b"] == {"sends": 4, "devices": 10, "queued": 40}
    assert {key: first[None][key] for key in ("connects", "sends", "connections", "queued")} == {
        "connects": 3,
        "sends": 4,
        "connections": 3,
        "queued": 40,
    }
    counts.of("b").sends = 5
    second = rows_at(series, 1_010)
    # A site with connections has a point of each interval, an idle one without any has none.
    assert second["a"] == {"connections": 3}
    assert second["b"] == {"sends": 1, "devices": 10, "queued": 40}
    assert "connects" not in second[None]
    assert second[None]["memory_bytes"] > 1_000_000
    assert second[None]["cpu_seconds"] >= 0
    counts.of("a").connections = 0
    assert rows_at(series, 1_020).keys() == {None}


def test_the_time_of_acks() -> None:
    """Acks are counted by their time since the writing, and only those since the sample before."""
    counts = Counts(["a"])
    series = SampleSeries(counts, 10)
    counts.of("a").ack_times.note(5, 100)
    assert sum(rows_at(series, 10)["a"]["ack_ms"]) == 100
    counts.of("a").ack_times.note(70_000_000, 1)
    counts.of("a").ack_times.note(-3, 2)
    acks = rows_at(series, 20)["a"]["ack_ms"]
    assert (acks[0], acks[-1], sum(acks)) == (2, 1, 3)


def test_a_round_is_due_once_an_interval() -> None:
    """All nodes sample at the same times, whenever they have started, and a sample carries this time."""
    series = SampleSeries(Counts(), 10)
    assert series.is_due(1_003)
    (row,) = filter(None, series.round(1_003))
    assert (row["at"], row["seconds"]) == (1_000_000, 10)
    assert not series.is_due(1_009)
    assert series.is_due(1_010)


def test_sites_past_the_bound_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round has the rows of so many sites; the others come first in the next one, with all since their last."""
    monkeypatch.setitem(samples.MOST_SITES, 10, 2)
    counts = Counts(["a", "b", "c"])
    series = SampleSeries(counts, 10)
    for site in counts.sites.values():
        site.sends = 1
    assert rows_at(series, 10).keys() == {"a", "b", None}
    for site in counts.sites.values():
        site.sends = 2
    later = rows_at(series, 20)
    assert later.keys() == {"c", "a", None}
    assert later["c"] == {"sends": 2}


def test_a_site_that_has_gone() -> None:
    """A site that is deleted is forgotten; one of the same name begins again."""
    counts = Counts(["a"])
    series = SampleSeries(counts, 10)
    counts.of("a").sends = 9
    rows_at(series, 10)
    del counts.sites["a"]
    assert rows_at(series, 20).keys() == {None}
    counts.of("a").sends = 2
    assert rows_at(series, 30)["a"] == {"sends": 2}
