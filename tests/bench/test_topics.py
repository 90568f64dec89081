"""The scenarios of topics run in miniature against Recado, which alone can play them."""

from bench.__main__ import run
from bench.scale import TINY
from bench.targets import judge_further


def test_topics_are_measured_and_judged() -> None:
    """Both scenarios give figures, and each has its target; the other contenders' servers do not take part."""
    results = run(TINY, ["topics", "topics-match"], ["recado", "floor"], is_pinned=False)
    few, many = TINY.topic_subscriptions
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        "topic event": {"recado"},
        "fan-out beside topics": {"recado"},
        f"topic event, {few} subscriptions": {"recado"},
        f"topic event, {many} subscriptions": {"recado"},
    }
    assert len(judge_further(results, TINY)) == 2
