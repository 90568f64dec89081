"""The scenario of bad networks runs in miniature, and Recado loses nothing in it."""

import dataclasses

from bench.__main__ import run
from bench.jitter import RESET, SILENT
from bench.scale import TINY
from bench.targets import judge_further

#: A delivery that a busy machine makes late is not lost.
PATIENT = dataclasses.replace(TINY, jitter=dataclasses.replace(TINY.jitter, patience_seconds=30))


def test_nothing_is_lost_in_a_bad_network() -> None:
    """Each device has every message, in order, when its connection is cut with a reset and in silence; what comes again
    is counted apart."""
    results = run(PATIENT, ["jitter"], ["recado", "floor"], is_pinned=False)
    assert set(results.samples) == {RESET, SILENT}
    assert [verdict.text for verdict in judge_further(results, PATIENT)] == ["reached", "reached"]
    for contenders in results.samples.values():
        ((sample,),) = contenders.values()
        assert (sample["delivered_percent"], sample["out_of_order"]) == (100, 0)
