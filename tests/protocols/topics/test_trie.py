"""The subscriptions that match a topic: MQTT's own examples, wildcards on both sides,
and a comparison with a naive search."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.topics import trie as module
from app.protocols.topics.topic import Levels, levels_of
from app.protocols.topics.trie import NODES_A_SLICE, Trie

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


_V = TypeVar("_V")


def found(trie: Trie[_V], *emitted: Levels) -> list[_V]:
    """Return the values that match some of these topics or patterns."""
    return [found[0] for found in trie.walk(emitted) if not isinstance(found, int)]


def met(trie: Trie[_V], topic: Levels) -> list[_V]:
    """Return the values that match one topic without wildcards."""
    return [value for value in trie.meet(topic) if not isinstance(value, int)]


def visits(trie: Trie[_V], *emitted: Levels) -> list[int]:
    """Return the numbers of nodes between the pauses of a walk."""
    return [found for found in trie.walk(emitted) if isinstance(found, int)]


def meets(subscribed: str, emitted: str) -> bool:
    """Search a trie that holds only this pattern."""
    trie: Trie[str] = Trie()
    trie.add(levels_of(subscribed), subscribed)
    return found(trie, levels_of(emitted)) == [subscribed]


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


@given(
    st.lists(_patterns, max_size=25, unique=True),
    st.lists(_patterns, max_size=25),
    st.lists(_patterns, min_size=1, max_size=6),
    st.booleans(),
)
def test_against_a_naive_search(
    added: list[Levels], removed: list[Levels], emitted: list[Levels], pauses: bool
) -> None:
    """After any additions and removals the trie finds the same subscriptions as a naive search, each once, with the
    places of all topics that it matches."""
    trie: Trie[Levels] = Trie()
    for pattern in added:
        trie.add(pattern, pattern)
    for pattern in set(removed) & set(added):
        trie.remove(pattern)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NODES_A_SLICE", 1 if pauses else 256)
        matches = [match for match in trie.walk(emitted) if not isinstance(match, int)]
    expected = [
        (pattern, [place for place, topic in enumerate(emitted) if naive(pattern, topic)])
        for pattern in set(added) - set(removed)
    ]
    exact = {topic: met(trie, topic) for topic in emitted if not {"+", "#"} & set(topic)}
    assert sorted(matches) == sorted(match for match in expected if match[1])
    for topic, values in exact.items():
        assert sorted(values) == sorted(pattern for pattern, _ in expected if naive(pattern, topic))


@given(
    st.lists(_patterns, max_size=25, unique=True),
    st.lists(st.lists(_patterns, max_size=6)),
    st.lists(_patterns, min_size=1, max_size=6),
)
def test_removals_during_a_walk(added: list[Levels], removed: list[list[Levels]], emitted: list[Levels]) -> None:
    """A walk goes on after removals in its pauses: it finds all that stays, each once, and nothing that went before the
    walk came by and does not match."""
    trie: Trie[Levels] = Trie()
    for pattern in added:
        trie.add(pattern, pattern)
    held, matches = set(added), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NODES_A_SLICE", 1)
        for match in trie.walk(emitted):
            if not isinstance(match, int):
                matches.append(match[0])
                continue
            for pattern in set(removed.pop() if removed else []) & held:
                trie.remove(pattern)
                held.remove(pattern)
    wanted = {pattern for pattern in added if any(naive(pattern, topic) for topic in emitted)}
    assert len(matches) == len(set(matches))
    assert held & wanted <= set(matches) <= wanted


WIDE = 5_000


def test_one_walk_for_all_patterns() -> None:
    """However many patterns an event has, no node is visited twice, and a name behind `+` is looked up: the children of
    children are not visited."""
    trie: Trie[int] = Trie()
    for number in range(WIDE):
        trie.add((f"a{number}",), number)
    patterns = [("+", f"x{number}") for number in range(50)]
    assert sum(visits(trie, *patterns)) < 1.1 * WIDE
    assert sum(visits(trie, ("#",), ("+", "#"), ("+",), ("$", "#"), ("+", "+", "#"))) < 1.1 * WIDE
    deep: Trie[int] = Trie()
    for number in range(WIDE):
        deep.add(("a", f"b{number % 50}", f"c{number}"), number)
    assert found(deep, ("a", "+", "c7")) == [7]
    assert sum(visits(deep, ("a", "+", "c7"))) < 200


def test_a_walk_pauses() -> None:
    """Between two pauses a walk visits a bounded number of nodes, whatever the shape of the trie."""
    wide: Trie[int] = Trie()
    for number in range(WIDE):
        wide.add((f"a{number}", f"b{number}"), number)
    for emitted in (("#",), ("+", "+"), ("+", "x"), ("+", "#")):
        assert len(visits(wide, emitted)) > WIDE // 500
        # One node's list of children is made at once: it costs as much as some more visits.
        assert max(visits(wide, emitted)) <= NODES_A_SLICE + WIDE // 64
    subscribed: Trie[str] = Trie()
    for number in range(2**12):
        subscribed.add(tuple("+" if number >> place & 1 else "a" for place in range(12)), str(number))
    topic = ("a",) * 12
    assert len(found(subscribed, topic)) == 2**12
    assert max(visits(subscribed, topic)) <= NODES_A_SLICE + 1
    pauses = [value for value in subscribed.meet(topic) if value == NODES_A_SLICE]
    assert len(pauses) >= 2**12 // 500


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
    assert sorted(found(trie, deep)) == ["deep", "wild"]
    assert sorted(found(trie, ("#",))) == ["deep", "wild"]
    trie.remove(deep)
    assert found(trie, deep) == ["wild"]


def test_nothing_is_hidden() -> None:
    """A trie that hides nothing matches reserved levels with wildcards in the first place, on either side."""
    trie: Trie[str] = Trie(hides_nothing=True)
    for topic in ("#", "+/b", "@a/b", "$s/b"):
        trie.add(levels_of(topic), topic)
    assert sorted(found(trie, levels_of("@a/b"))) == ["#", "+/b", "@a/b"]
    assert sorted(found(trie, levels_of("#"))) == ["#", "$s/b", "+/b", "@a/b"]
    assert sorted(found(trie, levels_of("+/b"))) == ["#", "$s/b", "+/b", "@a/b"]
