"""Finds the subscriptions that match a topic, with `+` and `#` on either side, without a look at all of them.

Knows only levels and opaque values. Every algorithm is iterative, so deep topics cannot exhaust the stack.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from app.protocols.topics.topic import ALL_LEVELS, ONE_LEVEL, Levels, is_hidden

V = TypeVar("V")


class _Node(Generic[V]):
    """One level of a pattern. Lives while at least one pattern contains it."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] | None = None
        self.value: V | None = None


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

    def matches(self, levels: Levels) -> Iterator[V]:
        """The values of all patterns that match this topic or pattern, each once, in no particular order."""
        waiting = [(self._root, 0)]
        while waiting:
            node, index = waiting.pop()
            if index < len(levels) and levels[index] == ALL_LEVELS:
                yield from self._below(node, is_root=index == 0)
                continue
            children = node.children or {}
            rest = children.get(ALL_LEVELS)
            if rest is not None and rest.value is not None and (index or not self._is_hidden(levels[0])):
                yield rest.value
            if index == len(levels):
                if node.value is not None:
                    yield node.value
            elif levels[index] == ONE_LEVEL:
                waiting += [
                    (child, index + 1)
                    for level, child in children.items()
                    if level != ALL_LEVELS and (index or not self._is_hidden(level))
                ]
            else:
                named = children.get(levels[index])
                if named is not None:
                    waiting.append((named, index + 1))
                any_level = children.get(ONE_LEVEL)
                if any_level is not None and (index or not self._is_hidden(levels[0])):
                    waiting.append((any_level, index + 1))

    def _below(self, start: _Node[V], *, is_root: bool) -> Iterator[V]:
        """The values of a node and of all nodes below it, which is the meaning of an emitted `#`."""
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node.value is not None:
                yield node.value
            for level, child in (node.children or {}).items():
                if node is not start or not is_root or not self._is_hidden(level):
                    waiting.append(child)


def _is_never_hidden(level: str) -> bool:
    return False
