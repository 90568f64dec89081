"""Long bodies of topics are read in another thread: registrations, subscriptions and events."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from app.errors import BadRequest
from app.observe.counts import Counts
from app.protocols.reading import new_reading_pool
from app.protocols.topics import emitting, registering, subscribing
from app.protocols.topics.exchange import Exchange
from app.protocols.topics.passwords import Passwords
from app.protocols.topics.settings import Topics
from app.protocols.topics.site_topics import SiteTopics
from tests.protocols.topics.conftest import topics_site

SITE = topics_site(topics=Topics())


class MemoryExchange:
    """A request with this body. Lives for one test."""

    is_mounted = False

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read_body(self, *_arguments: Any, **_options: Any) -> bytes:
        """Return the body."""
        return self._body


@pytest.mark.parametrize("is_long", [False, True])
async def test_long_bodies_are_read_aside(monkeypatch: pytest.MonkeyPatch, is_long: bool) -> None:
    """Each endpoint reads a long body in a thread, and a short one at once."""
    threads: Counter[str] = Counter()

    def noted(name: str) -> Any:
        def read(_body: bytes, *_arguments: Any, **_options: Any) -> Any:
            threads[name] += threading.current_thread() is not threading.main_thread()
            raise BadRequest("read")

        return read

    for module, name in (
        (registering, "read_registration"),
        (subscribing, "read_subscription"),
        (emitting, "read_emission"),
    ):
        monkeypatch.setattr(module, name, noted(name))
    body = json.dumps({"owner": "x" * (70_000 if is_long else 10)}).encode()
    exchange = cast(Exchange, MemoryExchange(body))
    topics = SiteTopics(SITE, Counts([SITE.name]).of(SITE.name))
    reading, passwords, none = new_reading_pool(), Passwords(), cast(Any, None)
    endpoints: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: registering.Registering(none, passwords, reading, 10**6).put(exchange, topics, "t"),
        lambda: subscribing.Subscribing(none, none, none, 10**6, reading).post(exchange, topics),
        lambda: emitting.Emitting(none, none, none, none, 10**6, reading).post(exchange, topics),
    )
    for endpoint in endpoints:
        with pytest.raises(BadRequest, match="read"):
            await endpoint()
    assert list(threads.values()) == [int(is_long)] * 3
    reading.close()
    passwords.close()
