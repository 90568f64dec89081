"""GET /trace: the lines of a user in order of time, on rows of both databases."""

from __future__ import annotations

import json
from typing import Any

from app.core.ports import ConnectNotes
from app.observe.records import SITE_BACKEND, TICKETS_REVOKED
from app.protocols.receipts.settings import MAX_TRACE_ROWS
from tests.protocols.receipts.asking import SITE, Backend
from tests.protocols.receipts.test_journal_messages import Write
from tests.support.fates import FIRST_SEQ, FateStream
from tests.support.store import StoreNode

BEGIN = "1970-01-01T00:00:00Z"


async def test_the_story_of_a_message(historian: Backend, stream: FateStream, write: Write) -> None:
    """Connects, refusals, messages, acks, fates and webhooks stand in order of time, each with a reason in words."""
    at = 1_000 + FIRST_SEQ
    stream.device(1, "user_42", "phone")
    stream.device(2, "user_42", "tablet")
    stream.device(3, "user_43", "phone")
    stream.send(FIRST_SEQ, [1, 2, 3])
    stream.ack((FIRST_SEQ, [1]), written=at + 10, acked=at + 25)
    stream.fate("expired", "device_ttl", (FIRST_SEQ, [2]), at=at + 40)
    stream.rows("refusals", {"at": at - 20, "user": "user_42", "device": "phone", "reason": "Authentication failed"})
    stream.rows(
        "connections",
        {"user": "user_42", "device": "phone", "transport": "websocket", "version": "4", "connected_at": at - 10,
         "disconnected_at": at + 50, "reason": "transport close"},
    )  # fmt: skip
    attempt = {"at": at + 60, "webhook_id": "w", "attempt": 2, "types": "user.offline", "status": 500}
    stream.rows("webhook_attempts", {**attempt, "users": json.dumps(["user_42"]), "outcome": "retry"})
    stream.rows("webhook_attempts", {**attempt, "users": json.dumps(["user_43"]), "outcome": "retry"})
    await write()
    answer = await historian.get("/trace", user="user_42", since=BEGIN)
    assert (answer["user"], answer["has_more"], answer["missing"]) == ("user_42", False, 0)
    what = f"message {FIRST_SEQ + 7} (news)"
    assert [(line["kind"], line.get("device"), line["text"]) for line in answer["lines"]] == [
        ("refused", "phone", "refused: Authentication failed"),
        ("connected", "phone", "connected over websocket, version 4"),
        *sorted([("accepted", "phone", f"{what} accepted"), ("accepted", "tablet", f"{what} accepted")]),
        ("written", "phone", f"{what} written to the connection"),
        ("acked", "phone", f"{what} acknowledged after 15 ms"),
        ("expired", "tablet", f"{what} expired, because its device_ttl was over"),
        ("disconnected", "phone", "disconnected: transport close"),
        ("webhook", None, "webhook user.offline, attempt 2: answered 500, retry"),
    ]
    only = await historian.get("/trace", user="user_42", device="tablet", since=BEGIN)
    assert {line.get("device") for line in only["lines"]} == {"tablet", None}
    newest = await historian.get("/trace", user="user_42", since=BEGIN, limit=2)
    assert ([line["kind"] for line in newest["lines"]], newest["has_more"]) == (["disconnected", "webhook"], True)


async def test_tickets(historian: Backend, stream: FateStream, write: Write) -> None:
    """A connect tells what became of its resume ticket; revocations stand where they may be the user's."""
    began = {"user": "user_42", "device": "phone", "transport": "polling", "reason": "transport close"}
    stream.rows("connections", {**began, "connected_at": 10, "disconnected_at": 20, "ticket": "taken"})
    stream.rows("connections", {**began, "connected_at": 30, "disconnected_at": 40, "ticket": "ticket is revoked"})
    for at, operator, detail in (
        (12, SITE_BACKEND, {"rooms": ["user_42", "cats"]}),
        (14, "ana", {"rooms": []}),
        (16, "ana", {"rooms": ["dogs"]}),
        (18, "ana", None),
    ):
        row = {"at": at, "operator": operator, "action": TICKETS_REVOKED, "detail": json.dumps(detail)}
        stream.rows("audit", {**row, "target": ""})
    stream.rows("audit", {"at": 19, "operator": "ana", "action": "sites.change", "target": "", "detail": "{}"})
    await write()
    answer = await historian.get("/trace", user="user_42", since=BEGIN)
    assert [line["text"] for line in answer["lines"] if line["kind"] in ("connected", "tickets")] == [
        "connected over polling, by its resume ticket",
        "resume tickets of this user revoked by its backend",
        "resume tickets of all users revoked by an operator",
        "resume tickets of the users in dogs revoked by an operator",
        "resume tickets of all users revoked by an operator",
        "connected over polling; its resume ticket was refused: ticket is revoked",
    ]
    assert "ana" not in json.dumps(answer)


async def test_what_is_still_open(historian: Backend, node: StoreNode, stream: FateStream, write: Write) -> None:
    """A device that is connected now, and a message that waits, with the reason of now."""
    registration = await node.queues.connect(SITE, 1, "phone", ["user_42"], ConnectNotes(client="websocket 4 Opera"))
    stream.device(int(registration.devices[0].handle), "user_42", "phone")
    stream.send(FIRST_SEQ, [int(registration.devices[0].handle)])
    await write()
    lines = (await historian.get("/trace", user="user_42", since=BEGIN))["lines"]
    assert [line["text"] for line in lines] == [
        f"message {FIRST_SEQ + 7} (news) accepted; still waiting: replaying: older messages of its queue come first",
        "connected over websocket, Engine.IO 4; connected now",
    ]


async def test_lines_of_long_ago(historian: Backend, stream: FateStream, write: Write) -> None:
    """Without `since` a trace begins a day ago."""
    stream.device(1, "user_42", "phone")
    stream.send(FIRST_SEQ, [1])
    await write()
    answer = await historian.get("/trace", user="user_42")
    assert answer["lines"] == []


async def test_bounds(historian: Backend, stream: FateStream, write: Write) -> None:
    """A trace looks at a bounded number of rows, and says that there may be more."""
    stream.device(1, "user_42", "phone")
    for number in range(MAX_TRACE_ROWS + 5):
        stream.send(FIRST_SEQ + number, [1])
    await write()
    answer = await historian.get("/trace", user="user_42", since=BEGIN, limit=1_000)
    assert len(answer["lines"]) == 1_000
    assert answer["has_more"]
    ids = [int(line["id"]) for line in answer["lines"]]
    assert ids == sorted(ids)
    assert ids[-1] == FIRST_SEQ + MAX_TRACE_ROWS + 4 + 7


async def test_bad_parameters(backend: Backend) -> None:
    """A user is needed; other parameters have their forms."""
    bad: list[dict[str, Any]] = [{}, {"user": ""}, {"user": "u", "since": "now"}, {"user": "u", "cursor": "x"}]
    for query in bad:
        assert await backend.code("/trace", **query) == (400, "bad_parameter")
