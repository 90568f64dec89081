"""GET /messages and GET /messages/<id> with a journal: real rows in both databases, and the queues of a real Valkey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.protocols.receipts import journal_messages
from tests.protocols.receipts.asking import KEY, OTHER_KEY, SITE, Backend
from tests.support.fates import FIRST_SEQ, FateStream
from tests.support.store import StoreNode

ID = FIRST_SEQ + 7
AT = "1970-02-04T17:20:01.000Z"
Write = Callable[[], Awaitable[None]]


async def test_a_message_with_all_fates(historian: Backend, stream: FateStream, write: Write) -> None:
    """Each device with its state, times and reason; the counts add up to the devices addressed."""
    for handle in range(1, 8):
        stream.device(handle)
    stream.send(FIRST_SEQ, [1, 2, 3, 4, 5], [6], opt={"ttl": 60}, rooms=["news", "user_1"])
    stream.more(FIRST_SEQ, [7])
    stream.ack((FIRST_SEQ, [1]), written=4_990, acked=5_000)
    stream.ack((FIRST_SEQ, [2]), acked=5_000, kind="batch")
    stream.fate("expired", "ttl", (FIRST_SEQ, [3]), at=9_000)
    stream.fate("withdrawn", "device forgotten", (FIRST_SEQ, [4]), at=9_001)
    stream.written(FIRST_SEQ, [5], written=4_000)
    await write()
    answer = await historian.get(f"/messages/{ID}")
    devices = answer.pop("devices")
    assert answer == {
        "id": str(ID),
        "site": "shop",
        "event": "news",
        "rooms": ["news", "user_1"],
        "bytes": 12,
        "accepted_at": AT,
        "options": {"ttl": 60},
        "summary": {
            **{"addressed": 7, "waiting": 1, "written": 1, "acked": 2, "expired": 1, "replaced": 0, "settled": 0},
            **{"withdrawn": 1, "resynced": 1},
        },
        "cursor": None,
    }
    assert sum(answer["summary"].values()) == 2 * answer["summary"]["addressed"]
    first, second, third, fourth, fifth, sixth, seventh = devices
    assert first == {
        "user": "user_1",
        "device": "d",
        "state": "acked",
        "written_at": "1970-01-01T00:00:04.990Z",
        "acked_at": "1970-01-01T00:00:05.000Z",
        "ms": 10,
        "ended_at": first["ended_at"],
        "reason": "",
    }
    assert (second["state"], second["batch"], "ms" in second) == ("acked", True, False)
    assert (third["state"], third["reason"], third["ended_at"]) == ("expired", "ttl", "1970-01-01T00:00:09.000Z")
    assert (fourth["state"], fourth["reason"]) == ("withdrawn", "device forgotten")
    assert (fifth["state"], fifth["written_at"]) == ("written", "1970-01-01T00:00:04.000Z")
    assert fifth["reason"] == "device not known any more"
    assert (sixth["state"], sixth["reason"]) == ("resynced", "queue full")
    assert (seventh["state"], seventh["reason"]) == ("waiting", "device not known any more")


async def test_pages_of_devices(historian: Backend, stream: FateStream, write: Write) -> None:
    """The devices of a message come in pages, each once."""
    for handle in range(1, 26):
        stream.device(handle)
    stream.send(FIRST_SEQ, list(range(1, 26)))
    await write()
    pages = await historian.pages(f"/messages/{ID}", "devices", 10)
    assert [len(page) for page in pages] == [10, 10, 5]
    assert {device["user"] for page in pages for device in page} == {f"user_{number}" for number in range(1, 26)}


async def test_reasons_of_devices_that_redis_knows(
    historian: Backend, node: StoreNode, stream: FateStream, write: Write
) -> None:
    """Why a message waits stands in Redis: the device is away since a time, or connected."""
    node.queues.now_ms = 1_790_000_000_000
    handles = []
    for number, device in enumerate(("away", "here")):
        registration = await node.queues.connect(SITE, number, device, ["user_1"])
        handles.append(registration.devices[0].handle)
        stream.device(int(handles[-1]), "user_1", device)
    await node.queues.disconnect(SITE, 0, [(handles[0], 0)])
    stream.send(FIRST_SEQ, [int(handle) for handle in handles])
    await write()
    reasons = {one["device"]: one["reason"] for one in (await historian.get(f"/messages/{ID}"))["devices"]}
    assert reasons == {
        "away": "away since 2026-09-21T14:13:20.000Z",
        "here": "replaying: older messages of its queue come first",
    }
    stream.written(FIRST_SEQ, [int(handle) for handle in handles])
    await write()
    devices = (await historian.get(f"/messages/{ID}"))["devices"]
    assert {(one["device"], one["state"], one["reason"]) for one in devices} == {
        ("away", "written", "away since 2026-09-21T14:13:20.000Z"),
        ("here", "written", "not acknowledged yet"),
    }


async def test_last_acks(historian: Backend, node: StoreNode, stream: FateStream, write: Write) -> None:
    """A device shows its last ack, as the journal knows it; one that has acknowledged nothing shows none."""
    for number, device in enumerate(("phone", "tablet")):
        registration = await node.queues.connect(SITE, number, device, ["user_1"])
        stream.device(int(registration.devices[0].handle), "user_1", device)
    for number, acked in enumerate((7_000, 5_000)):
        stream.send(FIRST_SEQ + number, [1, 2])
        stream.ack((FIRST_SEQ + number, [1]), acked=acked)
    await write()
    devices = (await historian.get("/devices", user="user_1"))["devices"]
    acks = {device["device"]: device["last_ack"] for device in devices}
    assert acks == {"phone": "1970-01-01T00:00:07.000Z", "tablet": None}


async def test_a_message_of_nobody(historian: Backend, stream: FateStream, write: Write) -> None:
    """An id that no message has is 404; so is one of another site; text that is no id is 400."""
    stream.send(FIRST_SEQ)
    await write()
    assert await historian.code(f"/messages/{ID + 1}") == (404, "unknown_message")
    assert await historian.code(f"/messages/{ID}", site="other", key=OTHER_KEY) == (404, "unknown_message")
    assert await historian.code(f"/messages/{ID}", "DELETE", site="other", key=OTHER_KEY) == (404, "unknown_message")
    assert await historian.code("/messages/abc") == (400, "bad_parameter")


async def test_lists(historian: Backend, stream: FateStream, write: Write) -> None:
    """The list is newest first, without devices, and every filter chooses by its own."""
    for handle in (1, 2):
        stream.device(handle)
    stream.send(FIRST_SEQ, [1], event="news", rooms=["cats"])
    stream.send(FIRST_SEQ + 1, [1, 2], event="score", rooms=["dogs", "cats"])
    stream.send(FIRST_SEQ + 2, [2], event="news", rooms=["dogs"])
    stream.ack((FIRST_SEQ, [1]), (FIRST_SEQ + 1, [1]))
    await write()

    async def ids(**query: Any) -> list[int]:
        answer = await historian.get("/messages", **query)
        assert all("devices" not in message for message in answer["messages"])
        return [int(message["id"]) - ID for message in answer["messages"]]

    assert await ids() == [2, 1, 0]
    assert await ids(event="news") == [2, 0]
    assert await ids(room="cats") == [1, 0]
    assert await ids(user="user_1") == [1, 0]
    assert await ids(state="acked") == [1, 0]
    assert await ids(state="waiting") == [2, 1]
    assert await ids(state="acked", user="user_2") == []
    assert await ids(since=AT.replace("01.000", "01.001")) == [2, 1]
    assert await ids(until=AT) == [0]
    assert await ids(state="expired") == []
    pages = await historian.pages("/messages", "messages", 2)
    assert [[int(message["id"]) - ID for message in page] for page in pages] == [[2, 1], [0]]


async def test_other_sites_see_no_message(historian: Backend, stream: FateStream, write: Write) -> None:
    """With another site's key there is no message, no count and no line; a cursor of this site means nothing there."""
    stream.device(1)
    for number in range(3):
        stream.send(FIRST_SEQ + number, [1])
    await write()
    cursor = (await historian.get("/messages", limit=1))["cursor"]
    other: dict[str, Any] = {"site": "other", "key": OTHER_KEY}
    assert await historian.get("/messages", **other) == {"messages": [], "cursor": None}
    assert await historian.get("/messages", state="waiting", user="user_1", **other) == {"messages": [], "cursor": None}
    assert (await historian.get("/trace", user="user_1", since="1970-01-01T00:00:00Z", **other))["lines"] == []
    assert await historian.code("/messages", cursor=cursor, **other) == (400, "bad_parameter")
    assert await historian.code("/messages", cursor=cursor, event="news") == (400, "bad_parameter")


async def test_bodies(historian: Backend, stream: FateStream, write: Write) -> None:
    """A kept body is in no answer of a site that does not say so, whatever is asked."""
    stream.send(FIRST_SEQ, body='["news",{"id":3}]')
    await write()
    for path in ("/messages", f"/messages/{ID}"):
        answer = await historian.ask(path, bodies="true")
        assert answer.status_code == 200
        assert '"body"' not in answer.text
    stream.key = stream.key.replace("shop", "keeper")
    stream.send(FIRST_SEQ, body='["news",{"id":3}]')
    await write()
    assert (await historian.get(f"/messages/{ID}", site="keeper", bodies="true"))["body"] == ["news", {"id": 3}]
    (message,) = (await historian.get("/messages", site="keeper", bodies="true"))["messages"]
    assert message["body"] == ["news", {"id": 3}]
    assert "body" not in await historian.get(f"/messages/{ID}", site="keeper")


async def test_a_site_without_queues(historian: Backend, node: StoreNode, write: Write, stream: FateStream) -> None:
    """A message of a site without queues is known with its nodes and without devices."""
    stream.key = stream.key.replace("shop", "plain")
    stream.add("plain", seq=FIRST_SEQ, id=ID, at=1, event="news", size=9, rooms=["cats"], nodes=2)
    await write()
    answer = await historian.get(f"/messages/{ID}", site="plain")
    assert (answer["nodes"], answer["summary"]["addressed"], answer["devices"]) == (2, 0, [])


async def test_a_journal_that_is_behind(
    historian: Backend, stream: FateStream, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the journal is behind, what it knows is marked as partial; of an unknown id nothing is said."""
    monkeypatch.setattr(journal_messages, "JOURNAL_SECONDS", 0.05)
    stream.device(1)
    stream.send(FIRST_SEQ, [1])
    await write()
    stream.send(FIRST_SEQ + 1, [1])
    answer = await historian.get(f"/messages/{ID}")
    assert answer["partial"] is True
    assert (answer["summary"]["addressed"], answer["summary"]["waiting"]) == (1, 0)
    assert await historian.code(f"/messages/{ID + 1}") == (503, "journal_behind")
    assert (await historian.get("/messages"))["partial"] is True
    assert (await historian.get("/messages", state="waiting")) == {"messages": [], "cursor": None, "partial": True}
    await write()
    assert "partial" not in await historian.get(f"/messages/{ID + 1}")


BAD: list[dict[str, Any]] = [
    {"state": "lost"},
    {"since": "yesterday"},
    {"until": "2026-11-27"},
    {"limit": 1_001},
    {"cursor": "nonsense"},
    {"room": ""},
    {"user": "a\0b"},
    {"rooms": "a"},
    {"bodies": "perhaps"},
]


@pytest.mark.parametrize("query", BAD)
async def test_bad_parameters(backend: Backend, query: dict[str, Any]) -> None:
    """A parameter of the wrong form is 400, with or without a journal."""
    assert await backend.code("/messages", **query) == (400, "bad_parameter")


async def test_without_a_journal(backend: Backend) -> None:
    """History is 501 where there is no journal."""
    assert await backend.code("/messages") == (501, "journal_off")
    assert await backend.code("/messages", state="acked") == (501, "journal_off")
    assert await backend.code("/messages/5") == (501, "journal_off")
    assert await backend.code("/trace", user="user_1") == (501, "journal_off")
    assert await backend.get("/messages", state="waiting") == {"messages": [], "cursor": None, "partial": True}
    assert await backend.code("/messages", key=KEY + "x") == (401, "invalid_key")
