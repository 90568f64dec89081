"""Publishers without a network: the commands of each request in Redis, and the answers when Redis fails."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from app.digests import digest
from app.errors import StoreError, StoreUnavailable
from app.observe import counted_lines
from app.protocols.channels import messages
from app.protocols.channels.publishers import history_of
from app.protocols.channels.settings import Channels
from tests.protocols.channels.conftest import SITE, ChannelsNode, NodeStarter
from tests.support.store import make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def ask(node: ChannelsNode, path: str, body: object, method: str = "POST", **headers: str) -> tuple[int, Any]:
    """Send one request to a path below the site's; return the status and the answer."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": f"/channels/{SITE.name}/{path}",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    await node.server(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def action(name: str, **data: object) -> dict[str, object]:
    """Encode the body of a request."""
    return {"messageType": "SERVER_ACTION", "action": name, "data": {"channel": "news", **data}}


async def test_a_push_is_one_run_of_a_script(start_node: NodeStarter, valkey: Valkey) -> None:
    """A push checks the token, publishes and extends the history in one EVALSHA, also with a wrong token."""
    node = await start_node()
    await node.create("news")
    for token, status in (("news", 200), ("wrong", 403)):
        valkey.client.config_resetstat()
        body = action("PUSH_MESSAGE", channelToken=token, recipients=[], message="x")
        assert (await ask(node, "push", body))[0] == status
        stats: Any = valkey.client.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 1


@pytest.mark.parametrize(("token", "status"), [("news", 200), ("wrong", 403)])
async def test_recipients_of_a_long_push_are_read_behind_its_token(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, token: str, status: int
) -> None:
    """A caller without the channel's token has no list of recipients read; the others' reach their subscribers."""
    node = await start_node()
    await node.create("news")
    client = node.client()
    await client.act("SUBSCRIBE", "news")
    read: list[int] = []
    read_recipients = messages.read_recipients

    def remember(recipients: bytes) -> list[str]:
        found = read_recipients(recipients)
        read.append(len(found))
        return found

    monkeypatch.setattr(messages, "read_recipients", remember)
    recipients = [*(str(UUID(int=number)) for number in range(1_999)), client.subscriber.uuid.upper()]
    body = action("PUSH_MESSAGE", channelToken=token, recipients=recipients, message="x")
    assert (await ask(node, "push", body))[0] == status
    assert (await ask(node, "push", body | {"data": {**body["data"], "channel": "none"}}))[0] == 404  # type: ignore[dict-item]
    assert read == ([2_000] if status == 200 else [])
    if status == 200:
        assert await client.pushed(1) == ["x"]


@pytest.mark.parametrize(("origin", "status"), [("https://ours", 200), ("https://theirs", 403), ("null", 403)])
async def test_origins_hold_for_publishers(start_node: NodeStarter, origin: str, status: int) -> None:
    """A foreign page may not create channels, not even where everybody may."""
    node = await start_node()
    node.server._sites[SITE.name] = structs.replace(SITE, origins=("https://ours",))
    assert (await ask(node, "channel/create", action("CREATE_CHANNEL"), origin=origin))[0] == status


async def test_a_creation_that_nobody_knows_of_is_taken_back(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Redis has created the channel and its answer is lost, the caller gets
    503 and can create the channel again."""
    node = await start_node()
    create = node.store.create_channel

    async def lose_answer(*arguments: Any) -> None:
        await create(*arguments)
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "create_channel", lose_answer)
        assert (await ask(node, "channel/create", action("CREATE_CHANNEL")))[0] == 503
    await node.settled()
    status, answer = await ask(node, "channel/create", action("CREATE_CHANNEL"))
    assert (status, answer["message"]) == (200, "Created")
    assert await node.store.channel_digests(SITE, ["news"]) == [digest(answer["data"]["channelToken"])]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(StoreUnavailable(), 503, "Service unavailable"), (StoreError("ERR secret"), 500, "Internal server error")],
)
async def test_redis_fails(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    """When Redis fails the answer says that nothing has happened, and contains none of Redis's own words."""
    node = await start_node()

    async def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(node.store, "find_channel", fail)
    answered, answer = await ask(node, "channel/ping", action("PING_CHANNEL", channelToken="x"))
    assert (answered, answer["message"]) == (status, text)
    assert "secret" not in answer["data"]["errorDetails"]


async def test_the_deletion_is_heard_in_the_order_of_the_pushes(start_node: NodeStarter) -> None:
    """Pushes made before a deletion arrive, and no later ones."""
    node = await start_node()
    await node.create("news")
    client = node.client()
    await client.act("SUBSCRIBE", "news")
    for number in range(5):
        await node.push("news", str(number))
    assert await node.delete("news") == 200
    await until(lambda: not client.subscriber.channels, "the deletion")
    assert client.messages == [str(number) for number in range(5)]


def test_how_much_is_kept() -> None:
    """The history keeps as many pushes as the site sets, for its device_ttl; with 0 practically for ever."""
    site = make_site(channels=Channels(history_messages=7), device_ttl_seconds=60)
    assert (history_of(site).messages, history_of(site).seconds) == (7, 60)
    assert history_of(make_site(channels=Channels(), device_ttl_seconds=0)).seconds > 10**8


async def test_refusals_are_counted_in_the_log(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who pushes with wrong tokens, or to paths of a stranger's choice, writes one line a second of each
    kind."""
    node = await start_node()
    await node.create("news")
    body = action("PUSH_MESSAGE", channelToken="wrong", recipients=[], message="x")
    monkeypatch.setattr(counted_lines, "WINDOW_SECONDS", 60.0)
    with capture_logs() as lines:
        for number in range(20):
            assert (await ask(node, "push", body))[0] == 403
            assert (await ask(node, f"none{number}", body))[0] == 404
    assert [(line["path"], line["status"]) for line in lines if line["event"] == "channel request refused"] == [
        ("push", 403),
        (None, 404),
    ]


async def test_keys_are_asked_for_in_words(start_node: NodeStarter) -> None:
    """Without a key, and with a wrong one, the answer says which key is expected, and where."""
    node = await start_node()
    status, answer = await ask(node, "sysadmin", {}, method="GET")
    assert status == 401
    for words in ("apiKey", "sites.yml", "X-API-Key: KEY", "Authorization: Bearer KEY", "?apiKey=KEY"):
        assert words in answer["data"]["errorDetails"]
    status, answer = await ask(node, "sysadmin", {}, "GET", **{"x-api-key": "wrong"})
    assert (status, "sites.yml" in answer["data"]["errorDetails"]) == (403, True)
