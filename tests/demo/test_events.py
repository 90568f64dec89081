"""The demo's webhook: the demo is its own backend, and shows what it was told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.demo.events import MAX_EVENTS, MAX_EVENTS_BYTES, SECRET
from tests.demo.conftest import DemoServer
from tests.support.clients import PYTHON_KINDS, ConnectCall
from tests.support.connector import Drivers
from tests.support.waiting import eventually


def events_of(demo: DemoServer) -> list[dict[str, Any]]:
    """The events that the demo shows."""
    events: list[dict[str, Any]] = httpx.get(f"{demo.url}/demo/events").json()
    return events


def post(demo: DemoServer, body: bytes, secret: str = SECRET) -> httpx.Response:
    """A signed POST, as any sender of webhooks makes it."""
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", now, body.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    return httpx.post(f"{demo.url}/demo/events", content=body, headers=headers)


def packed(*events: dict[str, Any]) -> bytes:
    """The body of a POST with these events."""
    return json.dumps({"type": "events", "data": {"events": events}}).encode()


def test_a_user_that_comes_is_told(demo: DemoServer, drivers: Drivers) -> None:
    """The demo's backend hears of the first device of a user."""
    query = {"token": "carol", "deviceId": "events"}
    client = drivers.python.connect(ConnectCall(PYTHON_KINDS[0], demo.url, "demo", query))
    client.wait_event("_settings")
    eventually(
        lambda: any((event["type"], event.get("user")) == ("user.online", "user_carol") for event in events_of(demo)),
        "the demo to be told of carol",
    )
    client.forget()


def test_the_newest_events_are_kept(demo: DemoServer) -> None:
    """Of many events the newest are shown, in their order."""
    numbers = [{"type": "webhook.test", "n": number} for number in range(MAX_EVENTS + 7)]
    assert post(demo, packed(*numbers)).status_code == 204
    shown = [event for event in events_of(demo) if "n" in event]
    assert shown == numbers[-len(shown) :]
    assert len(events_of(demo)) <= MAX_EVENTS


@pytest.mark.parametrize(
    ("body", "secret", "status"),
    [
        (packed({"type": "forged"}), "whsec_b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldA==", 401),
        (b"no json", SECRET, 400),
        (b'{"data": {"events": [1]}}', SECRET, 400),
        (b"[" * 100_000, SECRET, 400),
        (b" " * (MAX_EVENTS_BYTES + 1), SECRET, 413),
    ],
)
def test_what_is_refused(demo: DemoServer, body: bytes, secret: str, status: int) -> None:
    """A POST with another signature, of another form or too long is refused and leaves nothing."""
    assert post(demo, body, secret).status_code == status
    assert not [event for event in events_of(demo) if event["type"] == "forged"]
