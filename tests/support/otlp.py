"""A collector of spans: takes them over OTLP/HTTP, decodes them, and answers as a test says."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import eventually


class CollectedSpan(Struct, frozen=True):
    """A span as the collector got it."""

    name: str
    #: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    kind: int
    trace_id: str
    span_id: str
    #: "" for a span that begins a trace.
    parent_id: str
    state: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    is_failed: bool
    #: The attributes of the process.
    resource: Mapping[str, Any]


class Collector:
    """The collector. Lives within `running_collector`."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        """Take what the server gets."""
        self._server = server
        self.status = 200
        #: The headers of each request, names in lower case.
        self.requests: list[Mapping[str, str]] = []
        self.spans: list[CollectedSpan] = []

    @property
    def url(self) -> str:
        """The setting `tracing.endpoint`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def trace(self, trace_id: str) -> list[CollectedSpan]:
        """The spans of a trace, in the order of their begins."""
        return sorted((one for one in list(self.spans) if one.trace_id == trace_id), key=lambda one: one.began_ns)

    def wait_for(self, trace_id: str, names: Mapping[str, int]) -> dict[str, list[CollectedSpan]]:
        """Wait until a trace has so many spans of each of these names; the spans of all names by name."""
        eventually(lambda: _counted(self.trace(trace_id), names), f"the spans {dict(names)}", 30, 0.05)
        found: dict[str, list[CollectedSpan]] = {}
        for span in self.trace(trace_id):
            found.setdefault(span.name, []).append(span)
        return found

    def take(self, headers: Mapping[str, str], body: bytes) -> None:
        """Takes a request."""
        self.requests.append(headers)
        if self.status == 200:
            data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            self.spans += _decoded(ExportTraceServiceRequest.FromString(data))


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a port of its own, ended after the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    collector = server.collector = Collector(server)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="collector", daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        collector: Collector = self.server.collector  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["content-length"]))
        collector.take({name.lower(): value for name, value in self.headers.items()}, body)
        self.send_response(collector.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


def _counted(spans: list[CollectedSpan], names: Mapping[str, int]) -> bool:
    return all(sum(span.name == name for span in spans) >= count for name, count in names.items())


def _decoded(request: Any) -> Iterator[CollectedSpan]:
    for of_process in request.resource_spans:
        resource = _attributes(of_process.resource.attributes)
        for span in (one for scope in of_process.scope_spans for one in scope.spans):
            yield CollectedSpan(
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                state=span.trace_state,
                began_ns=span.start_time_unix_nano,
                ended_ns=span.end_time_unix_nano,
                attributes=_attributes(span.attributes),
                is_failed=span.status.code == 2,
                resource=resource,
            )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
