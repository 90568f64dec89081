"""Finds the subscriptions that match topics, with `+` and `#` on either side, without a look at all of them.

Knows only levels and opaque values. Every algorithm is iterative, so deep topics cannot exhaust the stack, and every
walk pauses, so that a large trie does not hold its caller.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

from app.protocols.topics.topic import ALL_LEVELS, ONE_LEVEL, Levels, is_hidden

#: The nodes that a walk visits until it pauses.
NODES_A_SLICE = 256
#: Names of children that are listed, and names that are looked up, in the time of a visit.
_LISTED_A_VISIT = 64
_ASKED_A_VISIT = 8

V = TypeVar("V")
#: The places of patterns in the sequence that was given, in ascending order.
Places: TypeAlias = Sequence[int]


class _Node(Generic[V]):
    """One level of a pattern. Lives while at least one pattern contains it."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] | None = None
        self.value: V | None = None


class _Want:
    """One level of the patterns that a walk looks for. Lives as long as the walk."""

    __slots__ = ("ends", "named", "one", "rest", "through")

    def __init__(self) -> None:
        self.named: dict[str, _Want] = {}
        #: The next level of the patterns that go on with `+`.
        self.one: _Want | None = None
        #: The patterns that go on with `#`, and the patterns that end here.
        self.rest: list[int] = []
        self.ends: list[int] = []
        #: The patterns that lead here, without those in `rest`, which a subscribed `#` meets.
        self.through: list[int] = []

    def next_levels(self) -> Iterator["_Want"]:
        """The next levels of all patterns that do not go on with `#`."""
        if self.one is not None:
            yield self.one
        yield from self.named.values()


class _Visit(Generic[V]):
    """A node whose children are still to be visited. Lives until all of them are."""

    __slots__ = ("below", "children", "cost", "is_root", "names", "wants")

    def __init__(self, children: dict[str, _Node[V]], wants: list[_Want], below: list[int], *, is_root: bool) -> None:
        self.children = children
        self.wants = wants
        #: The patterns that match everything below.
        self.below = below
        self.is_root = is_root
        #: In visits.
        self.cost = 0
        # A copy: the children may change while the walk pauses.
        self.names: Iterator[str] = iter(self._names())

    def _names(self) -> list[str]:
        named = sum(len(want.named) for want in self.wants)
        if self.below or named > len(self.children) or any(want.one for want in self.wants):
            self.cost = len(self.children) // _LISTED_A_VISIT
            return [*reversed(self.children)]
        # A look-up for each wanted name, whatever the number of children.
        self.cost = named // _ASKED_A_VISIT
        names = dict.fromkeys(name for want in self.wants for name in want.named if name in self.children)
        # First `+`, as es-web-notify tells a client of its own topics.
        return [ONE_LEVEL, *names] if ONE_LEVEL in self.children else [*names]


class Trie(Generic[V]):
    """Patterns with one value each. Lives as long as its owner; a removed pattern leaves nothing behind.

    Two patterns match when there is a topic that both match, by MQTT 3.1.1 section 4.7: `+` stands for one
    level, `#` for the rest or nothing, and a wildcard in the first place never stands for a level that
    begins with `$` (nor `@`, see topic.py), unless the trie `hides_nothing`.
    """

    def __init__(self, *, hides_nothing: bool = False) -> None:
        self._root: _Node[V] = _Node()
        self._is_hidden = _is_never_hidden if hides_nothing else is_hidden

    def add(self, levels: Levels, value: V) -> None:
        """Sets the value of the pattern."""
        node = self._root
        for level in levels:
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.value = value

    def remove(self, levels: Levels) -> None:
        """Removes the pattern; raises KeyError when it is not there."""
        path = [self._root]
        for level in levels:
            path.append((path[-1].children or {})[level])
        path[-1].value = None
        for level, parent, node in zip(reversed(levels), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if node.value is not None or node.children:
                return
            assert parent.children is not None, "the path leads through it"
            del parent.children[level]
            parent.children = parent.children or None

    def meet(self, levels: Levels) -> Iterator[V | int]:
        """The values that match one topic without wildcards, each once; the hot path, and otherwise as `walk`."""
        waiting = [(self._root, 0)]
        visited = 0
        while waiting:
            node, index = waiting.pop()
            visited += 1
            if visited >= NODES_A_SLICE:
                yield visited
                visited = 0
            children = node.children or {}
            takes_any = index or not self._is_hidden(levels[0])
            rest = children.get(ALL_LEVELS)
            if rest is not None and rest.value is not None and takes_any:
                yield rest.value
            if index == len(levels):
                if node.value is not None:
                    yield node.value
                continue
            if (named := children.get(levels[index])) is not None:
                waiting.append((named, index + 1))
            if takes_any and (any_level := children.get(ONE_LEVEL)) is not None:
                waiting.append((any_level, index + 1))
        yield visited

    def walk(self, patterns: Sequence[Levels]) -> Iterator[tuple[V, Places] | int]:
        """The values that match some of these topics or patterns, in no particular order: each once, with the places of
        the patterns that it matches. A number stands for a pause after so many nodes, some `NODES_A_SLICE`: values
        may be removed then, and a value that is added may be found or not.

        One walk for all patterns: no node is visited twice, however many patterns lead to it.
        """
        root = self._wants_of(patterns)
        if found := _rest(self._root, [root], root.rest):
            yield found
        if self._root.children is None:
            return
        waiting = [_Visit(self._root.children, [root], root.rest, is_root=True)]
        visited = waiting[0].cost
        while waiting:
            visit = waiting[-1]
            for name in visit.names:
                visited += 1
                if visited >= NODES_A_SLICE:
                    yield visited
                    visited = 0
                node = visit.children.get(name)
                if node is None or name == ALL_LEVELS:
                    continue
                wants, below = self._of_child(visit, name)
                if wants:
                    below = below + [place for want in wants for place in want.rest]
                elif not below:
                    continue
                if found := _rest(node, wants, below):
                    yield found
                if node.value is not None and (places := below + [place for want in wants for place in want.ends]):
                    yield node.value, sorted(places)
                if node.children is not None:
                    waiting.append(_Visit(node.children, wants, below, is_root=False))
                    visited += waiting[-1].cost
                    break
            else:
                waiting.pop()
        yield visited

    def _of_child(self, visit: _Visit[V], name: str) -> tuple[list[_Want], list[int]]:
        """The wants of the patterns in a child, and the patterns that match everything in and below it."""
        if visit.is_root and self._is_hidden(name):
            return [want.named[name] for want in visit.wants if name in want.named], []
        wants: list[_Want] = []
        for want in visit.wants:
            if name == ONE_LEVEL:
                wants += want.next_levels()
                continue
            if want.one is not None:
                wants.append(want.one)
            named = want.named.get(name)
            if named is not None:
                wants.append(named)
        if visit.is_root and name == ONE_LEVEL:
            hidden = [named for want in visit.wants for level, named in want.named.items() if self._is_hidden(level)]
            wants = [want for want in wants if want not in hidden]
        return wants, visit.below

    def _wants_of(self, patterns: Iterable[Levels]) -> _Want:
        root = _Want()
        for place, levels in enumerate(patterns):
            want = root
            # A subscribed `#` in the first place does not stand for a hidden level.
            is_met = not self._is_hidden(levels[0])
            for level in levels:
                if level == ALL_LEVELS:
                    break
                if is_met:
                    want.through.append(place)
                is_met = True
                want = _next(want, level)
            (want.rest if levels[-1] == ALL_LEVELS else want.ends).append(place)
            if levels[-1] != ALL_LEVELS and is_met:
                want.through.append(place)
        return root


def _next(want: _Want, level: str) -> _Want:
    if level == ONE_LEVEL:
        want.one = want.one or _Want()
        return want.one
    return want.named.setdefault(level, _Want())


def _rest(node: _Node[V], wants: list[_Want], below: list[int]) -> tuple[V, Places] | None:
    """The subscription that matches a node and everything below it, with the patterns that lead there."""
    rest = (node.children or {}).get(ALL_LEVELS)
    if rest is None or rest.value is None:
        return None
    places = below + [place for want in wants for place in want.through]
    return (rest.value, sorted(places)) if places else None


def _is_never_hidden(level: str) -> bool:
    return False
