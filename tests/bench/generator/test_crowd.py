"""The crowd's devices come back as socket.io-client does, and count each message once."""

import pytest

from bench.generator.crowd import Hearing, back_off_seconds, percentiles
from bench.generator.publisher import FIRST_NUMBER


@pytest.mark.parametrize(("tries", "least", "most"), [(0, 0.5, 1.5), (1, 1.0, 3.0), (2, 2.0, 5.0), (9, 5.0, 5.0)])
def test_pauses_grow_and_differ(tries: int, least: float, most: float) -> None:
    """A pause doubles with each failed try up to five seconds, and varies by half, so that a crowd spreads out."""
    pauses = [back_off_seconds(tries, chance / 100) for chance in range(100)]
    assert least <= min(pauses) <= max(pauses) <= most
    assert (len(set(pauses)) > 50) == (least != most)


def test_a_message_counts_once_for_each_device() -> None:
    """A message that comes live and again in a `_batch` is one receipt and one duplicate."""
    hearing = Hearing()
    first = hearing.receive(b"%d" % (FIRST_NUMBER + 3), 0, 0)
    assert first == 0b1000
    assert hearing.note(3, first) == first
    assert hearing.note(0, first) == 0b1001
    assert (len(hearing.times[3]), len(hearing.times[0]), hearing.duplicates) == (1, 1, 1)


def test_percentiles_keep_the_ends() -> None:
    """101 values say how the receipts lie, the first and the last among them."""
    hearing = Hearing()
    hearing.times[0].extend(float(value) for value in range(1_000, 0, -1))
    found = percentiles(hearing.times[0])
    assert (len(found), found[0], found[-1]) == (101, 1.0, 1_000.0)
    assert percentiles(hearing.times[1]) == []
