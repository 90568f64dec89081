"""Receipts of messages over several connections are counted by device."""

from bench.generator.tally import Tally


def test_what_is_lost_what_came_again_and_what_came_late() -> None:
    """One device has a message twice and misses one; another has all, the last two in the wrong order."""
    tally = Tally(devices=2, messages=3)
    for device, number in ((0, 0), (0, 2), (0, 2), (1, 0), (1, 2), (1, 1)):
        tally.add(device, number, 0.5)
    assert (tally.expected, tally.lost, tally.once) == (6, 1, 4)
    assert (tally.repeats, tally.out_of_order) == (1, 1)
    assert list(tally.delays_seconds) == [0.5] * 5
