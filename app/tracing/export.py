"""`Spans` on the SDK of OpenTelemetry, and the thread that hands them to a collector over OTLP/HTTP.

The only module that imports the packages of the extra `tracing`; `load.py` imports it when the setting is on.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from threading import Event, Thread
from typing import Any

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from app.config.settings import Config
from app.observe.versions import versions
from app.tracing.context import TraceContext
from app.tracing.counts import EXPORTED, NOT_EXPORTED, QUEUE_FULL, TracingCounts
from app.tracing.spans import Attributes, Begin, OpenSpan

#: The spans of one request to the collector.
MOST_IN_BATCH = 512
#: A batch goes after this time, if it is not full before.
_BATCH_SECONDS = 1.0
#: The time at the end of a node for the spans that wait.
_END_SECONDS = 2.0
#: The characters of one attribute, and the attributes of a span.
MAX_ATTRIBUTE = 256
MOST_ATTRIBUTES = 32
#: The bytes of a collector's answer that are read. None of it is shown or kept.
MAX_COLLECTOR_ANSWER = 65_536

_ROLES = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
}
#: The library's own lines, one for each failure, may hold the URL: `SpanQueue` writes one line for all.
_LIBRARY_LOGGERS = ("opentelemetry", "urllib3")

_log = structlog.get_logger(__name__)


class SdkSpan:
    """A span of the SDK that has begun. Lives until `end`."""

    __slots__ = ("_began_ns", "_span", "context")

    def __init__(self, span: Span, began_ns: int) -> None:
        self._span = span
        self._began_ns = began_ns
        own = span.get_span_context()
        state = own.trace_state.to_header()
        self.context = TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", own.trace_flags.sampled, state)

    def end(self, at_ns: int, attributes: Attributes | None = None, error: str = "") -> None:
        """See `OpenSpan`. A clock of milliseconds may be behind the begin."""
        if attributes:
            self._span.set_attributes(_encodable(attributes))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(max(at_ns, self._began_ns))


class SdkSpans:
    """`Spans` for one node. Lives as long as the node; `close` ends the thread."""

    def __init__(self, config: Config, node: str, counts: TracingCounts) -> None:
        for name in _LIBRARY_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        about = {
            "service.name": config.trace_service,
            "service.instance.id": node,
            "service.version": versions().get("recado", "unknown"),
        }
        self._session = CollectorSession()
        self._queue = SpanQueue(_exporter(config, self._session), self._session, config.trace_queue, counts)
        limits = SpanLimits(
            max_span_attributes=MOST_ATTRIBUTES, max_span_attribute_length=MAX_ATTRIBUTE, max_attributes=MOST_ATTRIBUTES
        )
        # The parts that begin a trace have decided already whether it is sampled.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(about), shutdown_on_exit=False, span_limits=limits
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("recado", about["service.version"])

    def begin(self, begin: Begin) -> OpenSpan:
        """See `Spans`."""
        parent = None if begin.parent is None else set_span_in_context(NonRecordingSpan(_remote(begin.parent)))
        name, attributes = _encodable_text(begin.name), _encodable(begin.attributes)
        span = self._tracer.start_span(name, parent, _ROLES[begin.role], attributes, start_time=begin.at_ns)
        return SdkSpan(span, begin.at_ns)

    async def close(self) -> None:
        """See `Spans`."""
        await asyncio.to_thread(self._queue.shutdown)


class CollectorSession(requests.Session):
    """The connections to the collector. Lives as long as `SdkSpans`; only the thread of its queue uses it."""

    def __init__(self) -> None:
        super().__init__()
        # Neither a proxy nor a `.netrc` of this machine, which would replace the header `authorization`.
        self.trust_env = False
        #: The status of the last answer, or the class of the error; never a text of the other side.
        self.last = ""

    def request(self, method: str, url: str | bytes, *more: Any, **given: Any) -> requests.Response:
        """Sends a request, and reads no more than the begin of the answer."""
        try:
            response = super().request(method, url, *more, **given | {"stream": True, "allow_redirects": False})
        except Exception as error:
            self.last = type(error).__name__
            raise
        self.last = f"status {response.status_code}"
        with contextlib.suppress(Exception):
            response.raw.read(MAX_COLLECTOR_ANSWER, decode_content=False)
        response.close()
        if 300 <= response.status_code < 400:
            # The exporter would take a redirect, which it does not follow, for a success.
            raise requests.TooManyRedirects
        return response


class SpanQueue(SpanProcessor):
    """The spans that have ended and wait for the collector, within a bound; past it further ones are counted and
    dropped. The thread takes batches. Lives as long as `SdkSpans`."""

    def __init__(self, exporter: SpanExporter, session: CollectorSession, most: int, counts: TracingCounts) -> None:
        self._exporter = exporter
        self._session = session
        self._most = most
        self._counts = counts.spans
        self._waiting: deque[ReadableSpan] = deque()
        self._woken = Event()
        self._is_ending = False
        #: Whether the collector has taken the last batch.
        self._is_well = True
        # A collector that hangs does not keep the process.
        self._thread = Thread(target=self._export_all, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended. Called on the loop; never waits."""
        if len(self._waiting) >= self._most:
            self._counts[QUEUE_FULL] += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == MOST_IN_BATCH:
            self._woken.set()

    def shutdown(self) -> None:
        """Hands on what waits, and ends the thread, within `_END_SECONDS`."""
        if self._is_ending:
            return
        self._is_ending = True
        self._woken.set()
        self._thread.join(_END_SECONDS)
        # Ends a retry that waits.
        self._exporter.shutdown()
        if self._waiting or self._thread.is_alive():
            _log.warning("spans lost at the end", spans=len(self._waiting))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nobody asks: `shutdown` is enough."""
        return True

    def _export_all(self) -> None:
        while not self._is_ending:
            self._woken.wait(_BATCH_SECONDS)
            self._woken.clear()
            while self._waiting and not self._is_ending:
                self._export()
        # A collector that is away has no second chance now.
        while self._waiting and self._is_well:
            self._export()

    def _export(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_IN_BATCH))]
        try:
            was_taken = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:
            self._session.last, was_taken = type(error).__name__, False
        self._counts[EXPORTED if was_taken else NOT_EXPORTED] += len(batch)
        if was_taken and not self._is_well:
            _log.info("spans exported again")
        elif not was_taken and self._is_well:
            _log.warning("spans not exported", reason=self._session.last)
        self._is_well = was_taken


def _exporter(config: Config, session: requests.Session) -> SpanExporter:
    headers: Mapping[str, str] = {"user-agent": "recado", **config.trace_headers}
    return OTLPSpanExporter(
        config.trace_endpoint,
        headers=dict(headers),
        timeout=config.trace_timeout_seconds,
        compression=Compression.Gzip,
        session=session,
    )


def _encodable(attributes: Attributes) -> Attributes:
    return {name: _encodable_text(one) if isinstance(one, str) else one for name, one in attributes.items()}


def _encodable_text(text: str) -> str:
    """The text without halves of surrogate pairs: one of these would cost its whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _remote(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), True, flags, state)
