"""The handlers of the Node package for authUrl and the webhook, in a backend of node:http."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from tests.support.hook_receiver import SECRET
from tests.support.processes import ChildProcess

SECONDS = 60.0
DRIVERS = Path(__file__).parent / "drivers"


@pytest.fixture(scope="module")
def backend() -> Iterator[ChildProcess]:
    """The backend."""
    process = ChildProcess("node", ["node", "http_server.mjs", SECRET], DRIVERS, dict(os.environ))
    yield process
    process.end()


@pytest.fixture(scope="module")
def http(backend: ChildProcess) -> Iterator[httpx.Client]:
    """Requests to the backend."""
    line = backend.lines.wait_for(lambda line: line.startswith("port "), "the backend to listen", SECONDS)
    with httpx.Client(base_url=f"http://127.0.0.1:{line.split()[1]}", timeout=SECONDS) as client:
        yield client


def post(http: httpx.Client, *types: str, pad: int = 0, changed: str = "") -> int:
    """The status of the answer to a webhook with events of these types."""
    body = json.dumps({"data": {"events": [{"type": one} for one in types], "pad": "x" * pad}})
    now = datetime.now(UTC)
    headers = {"webhook-id": "1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(SECRET).sign("1", now, body)
    return http.post("/events", content=body + changed, headers=headers).status_code


def test_rooms(http: httpx.Client) -> None:
    """The handler answers the rooms of a token, and 401 where there are none; an error of the backend is a 500."""
    answer = http.get("/rooms?a=1", headers={"Authorization": "Token ana"})
    assert (answer.status_code, answer.json()) == (200, ["user_8", "/rooms?a=1"])
    statuses = [http.get("/rooms", headers=headers).status_code for headers in ({}, {"Authorization": "Token bob"})]
    assert statuses == [401, 401]
    assert http.get("/rooms", headers={"Authorization": "Token broken"}).status_code == 500


def test_events(http: httpx.Client, backend: ChildProcess) -> None:
    """The handler hands in the events of a signed request in their order, and answers 400 to every other request. An
    event that is not kept is a 500, so that it comes again."""
    assert post(http, "first", "second") == 204
    backend.lines.wait_for(lambda line: line == "kept second", "the events", SECONDS)
    assert post(http, "third", changed=" ") == 400
    assert post(http, "third", pad=2 << 20) == 400
    assert post(http, "broken", "third") == 500
    assert http.post("/events").status_code == 400
    assert [line for line in backend.lines.snapshot() if line.startswith("kept")] == ["kept first", "kept second"]
