"""The subscriptions that match a topic: MQTT's own examples, wildcards on both sides,
and a comparison with a naive search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.topics.topic import Levels, levels_of
from app.protocols.topics.trie import Trie

# Subscribed topic, emitted topic, whether they match.
MQTT_SECTION_4_7 = [
    # 4.7.1.2, `#`
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/tennis/player1/#", "sport/tennis/player2", False),
    ("sport/#", "sport", True),
    ("#", "sport", True),
    ("#", "sport/tennis/player1", True),
    ("sport/tennis/#", "sport/tennis/player1", True),
    # 4.7.1.3, `+`
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player2", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+", "finance", True),
    ("+/tennis/#", "sport/tennis/player1", True),
    ("+/tennis/#", "sport/tennis", True),
    ("sport/+/player1", "sport/tennis/player1", True),
    ("sport/+/player1", "sport/tennis/player2", False),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    # 4.7.2, topics beginning with $
    ("#", "$SYS/monitor/Clients", False),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("$SYS/#", "$SYS/monitor/Clients", True),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ("sport/+", "sport/$tennis", True),
    ("sport/#", "sport/$tennis", True),
    # 4.7.3, semantics
    ("ACCOUNTS", "Accounts", False),
    ("Accounts payable", "Accounts payable", True),
    ("/finance", "finance", False),
    ("finance/", "finance", False),
    ("/", "/", True),
    ("/", "//", False),
    ("a//b", "a//b", True),
    ("a/+/b", "a//b", True),
    ("a/#", "a/", True),
    ("münchen/+", "münchen/ubahn", True),
]
BOTH_SIDES = [
    ("house/1/water", "house/+/water", True),
    ("house/1/power", "house/+/water", False),
    ("house/1/water/level", "house/+/water", False),
    ("house/1/water", "house/#", True),
    ("house", "house/#", True),
    ("garden", "house/#", False),
    ("garden/1", "#", True),
    ("house/+/water", "house/+/water", True),
    ("house/+/water", "house/1/+", True),
    ("house/+/water", "+/1/#", True),
    ("house/#", "house/+", True),
    ("house/#", "+", True),
    ("house/+", "+", False),
    ("house/1/#", "house/+", True),
    ("house/1/2/#", "house/+", False),
    ("house/#", "#", True),
    ("#", "#", True),
    ("+/a", "b/+", True),
    ("+/a/#", "b/+/c", True),
    ("$SYS/x", "#", False),
    ("$SYS/x", "+/x", False),
    ("$SYS/x", "$SYS/#", True),
    ("@CONNECTION@/me", "#", False),
    ("@CONNECTION@/me", "+/+", False),
    ("#", "@CONNECTION@/me", False),
    ("@CONNECTION@/+", "@CONNECTION@/me", True),
]


def meets(subscribed: str, emitted: str) -> bool:
    """Search a trie that holds only this pattern."""
    trie: Trie[str] = Trie()
    trie.add(levels_of(subscribed), subscribed)
    return list(trie.matches(levels_of(emitted))) == [subscribed]


@pytest.mark.parametrize(("subscribed", "emitted", "expected"), MQTT_SECTION_4_7)
def test_mqtt_rules(subscribed: str, emitted: str, expected: bool) -> None:
    """A subscription matches a topic exactly as MQTT 3.1.1 section 4.7 says."""
    assert meets(subscribed, emitted) == expected


@pytest.mark.parametrize(("subscribed", "emitted", "expected"), BOTH_SIDES)
def test_wildcards_on_both_sides(subscribed: str, emitted: str, expected: bool) -> None:
    """A wildcard in the emitted topic has the same meaning as one in a subscription."""
    assert meets(subscribed, emitted) == expected


def naive(subscribed: Levels, emitted: Levels, is_first: bool = True) -> bool:
    """Whether some topic matches both patterns, level by level, as the definition says."""
    if subscribed[:1] == ("#",) or emitted[:1] == ("#",):
        other = emitted if subscribed[:1] == ("#",) else subscribed
        return not (is_first and other and other[0].startswith(("$", "@")))
    if not subscribed or not emitted:
        return not subscribed and not emitted
    one, two = subscribed[0], emitted[0]
    if "+" in (one, two):
        other_level = two if one == "+" else one
        if is_first and other_level.startswith(("$", "@")):
            return False
    elif one != two:
        return False
    return naive(subscribed[1:], emitted[1:], False)


_level = st.sampled_from(["a", "b", "", "$s", "@c", "+"])
_pattern = st.builds(
    lambda levels, ends: (*levels, "#") if ends else tuple(levels),
    st.lists(_level, min_size=1, max_size=5),
    st.booleans(),
)
_patterns = st.one_of(_pattern, st.just(("#",)))


@given(st.lists(_patterns, max_size=25, unique=True), st.lists(_patterns, max_size=25), _patterns)
def test_against_a_naive_search(added: list[Levels], removed: list[Levels], emitted: Levels) -> None:
    """After any additions and removals the trie finds the same subscriptions as a naive search, each once."""
    trie: Trie[Levels] = Trie()
    for pattern in added:
        trie.add(pattern, pattern)
    for pattern in set(removed) & set(added):
        trie.remove(pattern)
    held = set(added) - set(removed)
    assert sorted(trie.matches(emitted)) == sorted(pattern for pattern in held if naive(pattern, emitted))


@given(st.lists(_patterns, max_size=25, unique=True))
def test_nothing_is_left_behind(patterns: list[Levels]) -> None:
    """When every pattern is removed the trie is as empty as a new one."""
    trie: Trie[int] = Trie()
    for number, pattern in enumerate(patterns):
        trie.add(pattern, number)
    for pattern in patterns:
        trie.remove(pattern)
    assert trie._root.children is None
    assert trie._root.value is None


def test_many_levels() -> None:
    """Ten thousand levels, more than `levels_of` ever accepts, are searched without recursion."""
    trie: Trie[str] = Trie()
    deep = ("a",) * 10_000
    trie.add(deep, "deep")
    trie.add((*deep[:-1], "+"), "wild")
    assert sorted(trie.matches(deep)) == ["deep", "wild"]
    assert sorted(trie.matches(("#",))) == ["deep", "wild"]
    trie.remove(deep)
    assert list(trie.matches(deep)) == ["wild"]


def test_nothing_is_hidden() -> None:
    """A trie that hides nothing matches reserved levels with wildcards in the first place, on either side."""
    trie: Trie[str] = Trie(hides_nothing=True)
    for topic in ("#", "+/b", "@a/b", "$s/b"):
        trie.add(levels_of(topic), topic)
    assert sorted(trie.matches(levels_of("@a/b"))) == ["#", "+/b", "@a/b"]
    assert sorted(trie.matches(levels_of("#"))) == ["#", "$s/b", "+/b", "@a/b"]
    assert sorted(trie.matches(levels_of("+/b"))) == ["#", "$s/b", "+/b", "@a/b"]
