"""Subscribers of topics over httpx, each on a thread of its own, and a backend's requests."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.support.endpoint import Endpoint
from tests.support.topic_frames import FrameReader
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS, Recording

Event = dict[str, Any]


class TopicStream:
    """One subscription from its request to its end; use it in a `with`. `events` are in the order of arrival."""

    def __init__(self, request: httpx.Request, *, is_sse: bool = False) -> None:
        """Prepare the subscription; nothing is sent yet."""
        self.events: Recording[Event] = Recording()
        self.ids: list[str | None] = []
        self.types: list[str] = []
        self.keep_alives: Recording[str] = Recording()
        self.ended = threading.Event()
        self.response: httpx.Response
        self._request = request
        self._is_sse = is_sse
        self._client = httpx.Client(timeout=httpx.Timeout(30))
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> TopicStream:
        """Subscribe; return when the head of the answer has arrived."""
        self.response = self._client.send(self._request, stream=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the subscription."""
        # Shut the socket itself down: closing a response waits for the thread that reads it.
        stream = self.response.extensions["network_stream"]
        with contextlib.suppress(OSError):
            stream.get_extra_info("socket").shutdown(2)
        self._thread.join(5)
        self.response.close()
        self._client.close()

    def wait(self, count: int, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> list[Event]:
        """Block until this many events have arrived, and return all."""
        return self.events.wait_until(lambda seen: len(seen) >= count, f"{count} events", timeout_seconds)

    def wait_type(self, type_: str, nth: int = 1, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Event:
        """Block until an event of this type has arrived, and return it."""
        return self.events.wait_for(lambda event: event["e"]["type"] == type_, type_, timeout_seconds, nth)

    @property
    def greeting(self) -> dict[str, Any]:
        """The detail of the first event: connid, secret, timeout."""
        event = self.wait(1)[0]
        assert event["ep"] == {"requested": "@SERVER@", "emitted": "@SERVER@"}
        assert event["e"]["type"] == "connected"
        detail: dict[str, Any] = event["e"]["detail"]
        return detail

    @property
    def number(self) -> int:
        """The connid."""
        return int(self.greeting["connid"])

    def details(self) -> list[Any]:
        """The details of the events that backends have emitted so far."""
        return [
            event["e"].get("detail") for event in self.events.snapshot() if not event["ep"]["emitted"].startswith("@")
        ]

    def _read(self) -> None:
        try:
            pieces = self.response.iter_text()
            self._read_sse(self.response) if self._is_sse else self._read_frames(pieces)
        except (httpx.HTTPError, OSError):
            pass
        self.ended.set()

    def _read_frames(self, pieces: Any) -> None:
        reader = FrameReader()
        for piece in pieces:
            before = reader.keep_alives
            for event in reader.feed(piece):
                self.events.add(event)
            for _ in range(reader.keep_alives - before):
                self.keep_alives.add("''0''")

    def _read_sse(self, response: httpx.Response) -> None:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line.startswith(":"):
                self.keep_alives.add(line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                self.ids.append(fields.get("id"))
                self.types.append(fields["event"])
                self.events.add(json.loads(fields["data"]))
                fields = {}


class TopicBackend:
    """A site's backend and its pages, at one server."""

    def __init__(self, server: Endpoint, site: str) -> None:
        """Remember the server and the site."""
        self.server = server
        self.site = site
        self.path = f"/topics/{site}"
        self._auth = {"x-api-key": server.key(site)}

    def subscribe(self, *points: str | Mapping[str, Any], **body: Any) -> TopicStream:
        """A subscription over POST."""
        request = httpx.Request("POST", f"{self.server.url}{self.path}/", json={"ep": list(points), **body})
        return TopicStream(request)

    def listen(self, *topics: str, headers: Mapping[str, str] | None = None, **query: str) -> TopicStream:
        """A subscription over SSE."""
        parameters = httpx.QueryParams([*(("topic", topic) for topic in topics), *query.items()])
        sent = {"accept": "text/event-stream", **(headers or {})}
        request = httpx.Request("GET", f"{self.server.url}{self.path}/stream", params=parameters, headers=sent)
        return TopicStream(request, is_sse=True)

    def try_emit(
        self, points: Sequence[str | Mapping[str, Any]], type_: str = "news", *details: Any, **body: Any
    ) -> httpx.Response:
        """POST /event, and return any answer."""
        event = {"type": type_, **({"detail": details[0]} if details else {})}
        return self.ask("POST", "/event", json={"ep": list(points), "e": event, **body})

    def emit(
        self, points: str | Sequence[str | Mapping[str, Any]], type_: str = "news", *details: Any, **body: Any
    ) -> None:
        """POST /event and require 200 with an empty body."""
        answer = self.try_emit([points] if isinstance(points, str) else points, type_, *details, **body)
        assert (answer.status_code, answer.content) == (200, b""), answer.text

    def extend(self, number: Any, secret: Any) -> httpx.Response:
        """POST /alive."""
        return self.server.post(f"{self.path}/alive", json={"connid": number, "secret": secret})

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request with the site's key."""
        headers = {**self._auth, **request.pop("headers", {})}
        return self.server.request(method, self.path + path, headers=headers, **request)
