"""The port of spans: the needs of tracing of a library. The adapter is `export.py`."""

from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

from app.tracing.context import TraceContext

SpanRole = Literal["server", "producer", "consumer", "internal", "client"]
Attributes = Mapping[str, str | int | bool]


class Begin(Struct, frozen=True):
    """The begin of a span."""

    name: str
    role: SpanRole
    #: In ns since the epoch.
    at_ns: int
    #: None: the span begins a trace.
    parent: TraceContext | None = None
    attributes: Attributes = {}


class OpenSpan(Protocol):
    """A span that has begun. Its owner ends it, once."""

    @property
    def context(self) -> TraceContext:
        """The span as others name it."""

    def end(self, at_ns: int, attributes: Attributes | None = None, error: str = "") -> None:
        """Ends the span with more attributes; with `error` as failed."""


class Spans(Protocol):
    """Makes spans, and hands those that have ended to the collector. Nothing here blocks or raises."""

    def begin(self, begin: Begin) -> OpenSpan:
        """Begins a span."""

    async def close(self) -> None:
        """Hands on what has ended, within some seconds. A span that ends later is lost."""
