"""Plain numbers: the bucket of a duration, and a site's numbers at their first use."""

import pytest

from app.config.settings import CANARY_SITE
from app.observe.counts import BOUNDS_SECONDS, Counts, Durations


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.0005, 0), (0.00051, 1), (5.0, len(BOUNDS_SECONDS) - 1), (5.1, -1)]
)
def test_duration_falls_in_one_bucket(seconds: float, bucket: int) -> None:
    """A duration counts in the first bucket whose bound it does not exceed, or in the last one without a bound."""
    durations = Durations()
    durations.observe(seconds)
    expected = [0] * (len(BOUNDS_SECONDS) + 1)
    expected[bucket] = 1
    assert (durations.buckets, durations.total_seconds) == (expected, seconds)


def test_sites_are_there_from_the_start() -> None:
    """The configured sites show their zeros. Another site's numbers are made at the first call, and stay."""
    counts = Counts(["a"])
    assert list(counts.sites) == ["a"]
    assert counts.of("a") is counts.sites["a"]
    assert counts.of("b") is counts.of("b")


def test_the_hidden_site_is_not_listed() -> None:
    """The numbers of the canary's site are kept, and no metric finds them."""
    counts = Counts([CANARY_SITE, "shop"])
    counts.of(CANARY_SITE).acks += 1
    assert counts.of(CANARY_SITE).acks == 1
    assert list(counts.sites) == ["shop"]
    counts.records.is_kept = True
    counts.records.add("connections", CANARY_SITE, {})
    assert counts.records.take() == {}


def test_scripts_are_told_apart() -> None:
    """Each script has durations of its own."""
    counts = Counts()
    for script, seconds in (("send", 1.0), ("ack", 2.0), ("send", 3.0)):
        counts.redis_answered(script, seconds)
    assert {name: of.total_seconds for name, of in counts.redis_seconds.items()} == {"send": 4.0, "ack": 2.0}
