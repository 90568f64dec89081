"""One request to /send on a node whose tracing is on: whether it is traced, and its span."""

import random
from collections.abc import Iterable
from contextvars import ContextVar
from time import time_ns

from app.tracing.context import TraceContext, read_context
from app.tracing.spans import OpenSpan

_FAILED_FROM = 500

Headers = Iterable[tuple[bytes, bytes]]


class SendRequest:
    """One request to /send. Lives until its answer."""

    __slots__ = ("_headers", "_is_sampled", "began_ns", "context", "route", "span")

    def __init__(self, route: str, headers: Headers) -> None:
        self.route = route
        self.began_ns = time_ns()
        self.span: OpenSpan | None = None
        #: The context of the caller, once it is read.
        self.context: TraceContext | None = None
        self._headers = headers
        self._is_sampled: bool | None = None

    def is_sampled(self, share: float) -> bool:
        """Whether it is traced: as its caller says, or else by chance. Decided at the first call."""
        if self._is_sampled is None:
            self.context = read_context(self._headers)
            by_chance = self.context is None and random.random() < share
            self._is_sampled = by_chance or (self.context is not None and self.context.is_sampled)
        return self._is_sampled

    def end(self, status: int) -> None:
        """It is answered."""
        if self.span is not None:
            error = str(status) if status >= _FAILED_FROM else ""
            self.span.end(time_ns(), {"http.response.status_code": status}, error)


#: The request to /send in whose course the store is asked.
current_request: ContextVar[SendRequest | None] = ContextVar("current_request", default=None)
