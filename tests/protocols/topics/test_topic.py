"""The rules for a valid topic."""

from __future__ import annotations

import re

import pytest

from app.errors import BadRequest
from app.protocols.topics.topic import (
    MAX_LEVELS,
    MAX_TOPIC_BYTES,
    TopicRules,
    emitted_levels,
    has_wildcard,
    is_hidden,
    is_pattern,
    is_reserved,
    levels_of,
)


@pytest.mark.parametrize(
    ("topic", "levels"),
    [
        ("a", ("a",)),
        ("a/b", ("a", "b")),
        ("/a//b/", ("", "a", "", "b", "")),
        ("/", ("", "")),
        ("+/a/#", ("+", "a", "#")),
        ("#", ("#",)),
        (" ", (" ",)),
        ("a" * MAX_TOPIC_BYTES, ("a" * MAX_TOPIC_BYTES,)),
        ("/" * (MAX_LEVELS - 1), ("",) * MAX_LEVELS),
    ],
)
def test_levels(topic: str, levels: tuple[str, ...]) -> None:
    """The levels of a topic are the texts between slashes, empty ones too (MQTT 3.1.1, 4.7.1.1)."""
    assert levels_of(topic) == levels


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "empty"),
        ("a\0b", "U+0000"),
        ("sport/tennis#", "whole level"),
        ("sport+", "whole level"),
        ("sport/tennis/#/ranking", "last level"),
        ("#/#", "last level"),
        ("++", "whole level"),
        ("a" * (MAX_TOPIC_BYTES + 1), "4096 bytes"),
        ("ü" * (MAX_TOPIC_BYTES // 2 + 1), "4096 bytes"),
        ("/" * MAX_LEVELS, "levels"),
        ("a/" * 10_000, "4096 bytes"),
    ],
)
def test_what_is_no_topic(topic: str, reason: str) -> None:
    """A topic that MQTT forbids, or one over our limits, is refused with the reason."""
    with pytest.raises(BadRequest, match=re.escape(reason)):
        levels_of(topic)


def test_kinds() -> None:
    """Wildcards, the server's own topics, and first levels that wildcards do not match are recognized."""
    assert [has_wildcard(topic) for topic in ("a/+", "#", "a")] == [True, True, False]
    assert [is_reserved(topic) for topic in ("@SERVER@", "@x", "a/@x")] == [True, True, False]
    assert [is_hidden(level) for level in ("$SYS", "@SERVER@", "a$")] == [True, True, False]


TEXT = TopicRules(takes_text=True)


@pytest.mark.parametrize(
    ("topic", "levels"),
    [
        ("", ("",)),
        ("a#", ("a#",)),
        ("a+/b", ("a+", "b")),
        ("a/#", ("a", "#")),
        ("a/+", ("a", "+")),
        ("#/a", ("\0#", "a")),
        ("a/#/#", ("a", "\0#", "#")),
    ],
)
def test_text(topic: str, levels: tuple[str, ...]) -> None:
    """Rules that take text refuse no wildcard: a `#` before the end is marked as text. Bounds stay."""
    assert levels_of(topic, TEXT) == levels == emitted_levels(topic)
    for too_much in ("a\0", "a" * (MAX_TOPIC_BYTES + 1), "/" * MAX_LEVELS):
        with pytest.raises(BadRequest):
            levels_of(too_much, TEXT)


def test_text_is_no_pattern() -> None:
    """A wildcard within a level or before the end makes no pattern; neither does the client `+` with its own rule."""
    assert not any(map(has_wildcard, ("", "a#", "a+", "#/a")))
    assert all(map(has_wildcard, ("a#/+", "+/#/a", "#")))
    assert is_pattern(levels_of("@CONNECTION@/+"))
    assert not is_pattern(levels_of("@CONNECTION@/+", TopicRules(has_text_plus=True)))
