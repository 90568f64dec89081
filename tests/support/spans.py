"""`Spans` that keep what was begun and ended."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from app.tracing.context import TraceContext
from app.tracing.spans import Attributes, Begin, OpenSpan


class KeptSpan:
    """A span with its begin, and its end once it has one."""

    def __init__(self, begin: Begin, number: int) -> None:
        """Begin it."""
        parent = begin.parent
        self.begun = begin
        trace_id = f"{number:032x}" if parent is None else parent.trace_id
        self.context = TraceContext(trace_id, f"{number:016x}", True, "" if parent is None else parent.state)
        self.attributes: dict[str, str | int | bool] = dict(begin.attributes)
        self.ended_ns = 0
        self.error = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.begun.name

    def end(self, at_ns: int, attributes: Attributes | None = None, error: str = "") -> None:
        """End it, once."""
        assert not self.ended_ns, f"{self.name} has ended before"
        self.ended_ns, self.error = at_ns, error
        self.attributes |= attributes or {}


class KeptSpans:
    """The spans of a test."""

    def __init__(self) -> None:
        """Without any."""
        self.all: list[KeptSpan] = []
        self.is_closed = False
        self._numbers = itertools.count(1)

    def begin(self, begin: Begin) -> OpenSpan:
        """Begin a span."""
        span = KeptSpan(begin, next(self._numbers))
        self.all.append(span)
        return span

    async def close(self) -> None:
        """The node ends."""
        self.is_closed = True

    @property
    def open(self) -> list[str]:
        """The names of those that have not ended."""
        return [one.name for one in self.all if not one.ended_ns]

    def named(self, name: str) -> list[KeptSpan]:
        """The spans of this name."""
        return [one for one in self.all if one.name == name]

    def counted(self) -> Mapping[str, int]:
        """How many there are of each name."""
        return {one.name: len(self.named(one.name)) for one in self.all}
