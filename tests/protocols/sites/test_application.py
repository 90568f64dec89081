"""A site's client on the wire: the events, their order and their source. On a real Valkey, without a network."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import socketio
from structlog.testing import capture_logs

from app.config.settings import Site
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.protocols.sites.door import NARROW, PLAIN, SITE, TOKEN, Door, received
from tests.socketio.socket_case import Client
from tests.support.store import queue_of
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.transport.serving import serving


async def test_greeting(door: Door) -> None:
    """The first packet is CONNECT, the first event `_settings`. Without waiting messages there is no `_batch`."""
    client = await door.client()
    await client.send(b'40/site,{"token":"t"}')
    connect, settings = await received(client, 2)
    assert re.fullmatch(r'40/site,\{"sid":"[^"]+"\}', connect)
    assert settings == '42/site,["_settings",{"device_ttl":77}]'
    await door.node.publish(SITE, "user_1", body=b'["live",1]')
    (live,) = await received(client, 1)
    assert re.fullmatch(r'42/site,\d+\["live",1\]', live)


async def test_batch_follows_the_settings(door: Door) -> None:
    """Waiting messages come as one event with one ack, directly after `_settings`. The ack empties the queue."""
    client = await door.connected('40/site,{"token":"t","deviceId":"d"}')
    client.engine.close("transport close")
    for number in (1, 2):
        await door.node.publish(SITE, "user_1", body=f'["e",{number}]'.encode())
    again = await door.client()
    await again.send(b'40/site,{"token":"t","deviceId":"d"}')
    _, settings, batch = await received(again, 3)
    assert settings.startswith('42/site,["_settings"')
    assert batch == '42/site,1["_batch",[["e",1],["e",2]]]'
    await again.send(b"43/site,1[]")
    await until(lambda: queue_of(door.valkey, SITE) == [], "the ack")


@pytest.mark.parametrize(
    ("packet", "version", "handshake", "expected"),
    [
        ('40/site,{"token":"a","meta":"b"}', 4, "", ("a", "b")),
        ('40/site,{"token":"a"}', 4, "token=h&meta=m", ("a", "m")),
        ("40/site,", 4, "token=h&meta=m", ("h", "m")),
        ("40/site", 4, "EIO=4", (None, None)),
        ('40/site,{"token":7,"meta":1.5}', 4, "", ("7", "1.5")),
        ('40/site,{"token":""}', 4, "token=h", ("", None)),
        ('40/site,{"token":null,"meta":["x"]}', 4, "token=h", ("h", None)),
        ('40/site,{"token":{"a":1}}', 4, "token=h&meta=", ("h", "")),
        ("40/site?token=q&meta=n", 3, "token=h&meta=m", ("q", "n")),
        ("40/site?token=q,", 3, "token=h&meta=m", ("q", "m")),
        ("40/site", 3, "token=h+1%26", ("h 1&", None)),
    ],
)
async def test_credentials(
    door: Door, packet: str, version: int, handshake: str, expected: tuple[str | None, str | None]
) -> None:
    """The CONNECT payload wins over the packet's query, and that over the handshake's query, for each value
    separately."""
    client = await door.client(version, handshake)
    await client.send(packet.encode())
    await until(lambda: door.directory.asked, "the question")
    assert door.directory.asked == [("site", *expected)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Authentication failed", "Authentication failed"),
        ("Auth 500 error", "Auth 500 error"),
        (["room", "USER_1"], "User is missing a private room"),
        ([], "User is missing a private room"),
    ],
)
async def test_refusals(door: Door, answer: list[str] | str, text: str) -> None:
    """A refusal has the contract's text in the form of each version. The session stays open, and the client may
    retry."""
    door.directory.answer = answer
    for version, refusal in ((4, f'44/site,{{"message":"{text}"}}'), (3, f'44/site,"{text}"')):
        client = await door.client(version)
        await client.send(b"40/site")
        assert await received(client, 1) == [refusal]
        assert client.engine.is_open
    # The last of them retries, and succeeds.
    assert door.updates.reported == []
    assert not [key for key in door.valkey.dump() if "device" in key]
    door.directory.answer = ["user_1"]
    await client.send(b"40/site")
    assert (await received(client, 2))[0] == "40/site"


@pytest.mark.parametrize(
    ("credentials", "text"),
    [
        ({"deviceId": "d" * 257}, "deviceId: expected at most 256 bytes"),
        ({"deviceId": "ä" * 129}, "deviceId: expected at most 256 bytes"),
        ({"token": "t" * 8_193}, "token: expected at most 8192 bytes"),
        ({"meta": "m" * 8_193}, "meta: expected at most 8192 bytes"),
    ],
)
async def test_credentials_that_are_too_long(door: Door, credentials: dict[str, str], text: str) -> None:
    """They are refused before anybody is asked, and not logged; the longest that are allowed are fine."""
    client = await door.client()
    with capture_logs() as lines:
        await client.send(b"40/site," + json.dumps({"token": "t"} | credentials).encode())
        assert await received(client, 1) == [f'44/site,{{"message":"{text}"}}']
    assert len(str(lines)) < 1_000
    assert door.directory.asked == []
    assert door.application._counts.of("site").connects["too long"] == 1
    longest = {name: value[: len(value) - 1] for name, value in credentials.items()}
    await client.send(b"40/site," + json.dumps({"token": "t"} | longest).encode())
    await until(lambda: door.directory.asked, "the question")


async def test_public_channel_is_room_enough(door: Door) -> None:
    """A visitor in the public channel needs no own room, and is not reported."""
    door.directory.answer = ["public", "news"]
    client = await door.connected()
    await door.node.publish(SITE, "public", body=b'["e"]')
    await received(client, 1)
    assert door.updates.reported == []


async def test_store_away(door: Door) -> None:
    """While Redis is away the server ends a client's transport, so that the client reconnects by itself. It does not
    after a refusal."""
    await door.node.redis.close()
    client = await door.client()
    await client.send(b"40/site")
    await until(lambda: not client.engine.is_open, "the end of the transport")
    assert not [packet for packet in client.received() if packet.startswith(b"44")]


async def test_namespaces(door: Door) -> None:
    """Namespaces are the sites by their exact names, and the root, where nothing happens."""
    accepted = [name for name in ("/", "/site", "/plain", "/Site", "/site/", "/unknown", "") if accepts(door, name)]
    assert accepted == ["/", "/site", "/plain"]
    client = await door.client()
    await client.send(b"40")
    assert (await received(client, 1))[0].startswith('40{"sid"')
    assert door.directory.asked == []
    # Nobody has shown anything: the session's time goes on.
    assert not client.session.namespaces["/"].holds_session


def accepts(door: Door, namespace: str) -> bool:
    """Whether the server accepts the namespace."""
    return door.application.accepts_namespace(namespace)


@pytest.mark.parametrize(("site", "is_let_in"), [(NARROW, False), (SITE, True)])
async def test_origins(door: Door, site: Site, is_let_in: bool) -> None:
    """A site may restrict the origins of browsers. Without a restriction any origin may connect. The log names the
    refused origin, cut where it is long."""
    client = await door.client()
    client.engine.origins = ("https://" + "x" * 300,)
    with capture_logs() as lines:
        await client.send(f"40/{site.name}".encode())
        answer = (await received(client, 1))[0]
    assert is_let_in or [(line["reason"], line["origins"]) for line in lines] == [
        ("Origin not allowed", ["https://" + "x" * 192])
    ]
    assert answer.startswith("40/" if is_let_in else '44/narrow,{"message":"Origin not allowed"}')
    assert bool(door.directory.asked) is is_let_in


async def test_reports(door: Door) -> None:
    """updateUserUrl hears of each user room, with the token, when the client has connected and when it has gone."""
    door.directory.answer = ["user_8", "public", "user_3_admin"]
    client = await door.connected(f'40/site,{{"token":"{TOKEN}"}}')
    came = [("site", "8", TOKEN, True), ("site", "3", TOKEN, True)]
    assert door.updates.reported == came
    client.engine.close("transport close")
    went = [("site", "8", TOKEN, False), ("site", "3", TOKEN, False)]
    await until(lambda: door.updates.reported == [*came, *went], "the report of its end")


async def test_end_that_another_node_has_reported(door: Door) -> None:
    """A node that was taken for dead does not repeat the report that another node has made for it."""
    client = await door.connected(f'40/site,{{"token":"{TOKEN}"}}')
    await RedisQueues(door.node.redis, "survivor", 1_000_000).bury(SITE, door.node.name, "")
    client.engine.close("transport close")
    await door.node.delivery.drain()
    assert door.updates.reported == [("site", "1", TOKEN, True)]


@pytest.mark.parametrize("token", [None, "", TOKEN])
async def test_reports_in_a_dead_nodes_stead(door: Door, valkey: Valkey, token: str | None) -> None:
    """The connections of a dead node are stored with enough to report their ends: each user, its token, the last
    beat."""
    door.directory.answer = ["user_8", "public", "user_3_admin"]
    await door.connected("40/site," + json.dumps({} if token is None else {"token": token}))
    came = door.updates.reported
    door.updates.reported = []
    survivor = RedisQueues(door.node.redis, "survivor", 1_000_000)
    since = datetime.now(UTC) - timedelta(seconds=9)
    _, buried = await survivor.bury(SITE, door.node.name, int(since.timestamp() * 1000))
    for connection in buried:
        door.application.report_buried(connection)
    assert sorted(door.updates.reported) == sorted((site, user, token, False) for site, user, token, _ in came)
    assert all(abs(moment - since) < timedelta(milliseconds=2) for moment in door.updates.moments[-2:])


async def test_tokens_are_kept_for_reports_alone(door: Door, valkey: Valkey) -> None:
    """A token is in Redis only while its user is connected, and only for a site that wants reports."""
    client = await door.connected(f'40/site,{{"token":"{TOKEN}"}}')
    for other in ("plain", "quiet"):
        await door.connected(f'40/{other},{{"token":"{TOKEN}"}}')
    holders = [key for key, value in valkey.dump().items() if TOKEN in str(value)]
    assert holders == [prefix("site") + "device:1"]
    client.engine.close("transport close")
    await until(lambda: TOKEN not in str(valkey.dump()), "the token to go")


async def test_plain_site_reports_nobody(door: Door) -> None:
    """A site without userRoomPrefix has no users to report, and its messages ask for no ack."""
    client = await door.connected("40/plain,")
    await door.node.publish(PLAIN, "user_1", body=b'["e",1]')
    assert await received(client, 1) == ['42/plain,["e",1]']
    client.engine.close("transport close")
    assert door.updates.reported == []


async def test_client_that_goes_while_its_backend_is_asked(door: Door) -> None:
    """A client that goes while its backend is asked is neither registered nor reported."""
    door.directory.may_answer.clear()
    client = await door.client()
    await client.send(b"40/site")
    await until(lambda: door.directory.asked, "the question")
    client.engine.close("transport close")
    door.directory.may_answer.set()
    await door.connected()
    assert len(door.updates.reported) == 1
    devices = [key for key in door.valkey.dump() if ":device:" in key]
    assert devices == [prefix("site") + "device:1"]


async def test_acks(door: Door) -> None:
    """The ack of a message removes it. An unknown ack does nothing, and neither does an ack before the connect."""
    client = await door.client()
    await client.send(b"43/site,5[]", b"40/site")
    await received(client, 2)
    await door.node.publish(SITE, "user_1", body=b'["e",1]')
    (packet,) = await received(client, 1)
    ack_id = re.findall(r"^42/site,(\d+)", packet)[0]
    await client.send(b"43/site,999[]", b"43/site,1[]")
    await door.node.delivery.drain()
    assert len(queue_of(door.valkey, SITE)) == 1
    await client.send(f"43/site,{ack_id}[]".encode())
    await until(lambda: queue_of(door.valkey, SITE) == [], "the ack")


async def test_what_clients_emit(door: Door) -> None:
    """Clients of a site only listen: an event from a client is dropped, and acknowledged if the client asks for an
    ack."""
    client = await door.connected()
    await client.send(b'42/site,["hello",1]', b'42/site,3["hello"]')
    assert await received(client, 1) == ["43/site,3[]"]


async def told_resync(door: Door) -> Client:
    """A client that got a `_resync` for an ack out of turn, with a ping before and after it."""
    client = await door.connected()
    for number in (1, 2):
        await door.node.publish(SITE, "user_1", "a", body=f'["a",{number}]'.encode(), resync=True)
    second = (await received(client, 2))[1]
    await client.send(b"43/site," + second.removeprefix("42/site,").split("[")[0].encode() + b"[]")
    assert await received(client, 3) == ["2", '42/site,["_resync"]', "2"]
    return client


@pytest.mark.parametrize(
    ("answers", "is_repeated"),
    [
        pytest.param((b"3", b"3"), False, id="received"),
        pytest.param((b"3", b"41/site,", b"3"), False, id="left because of it"),
        pytest.param((b"41/site,", b"3", b"3"), True, id="left before it"),
        pytest.param((b"3", b"41/site,"), True, id="vanished before it"),
    ],
)
async def test_resync_is_repeated_unless_received(door: Door, answers: tuple[bytes, ...], is_repeated: bool) -> None:
    """`_resync`, a bare event, is sent again at the next connect unless the client is known to have it. A client that
    left the site before `_resync` came still answers the ping of the transport, but did not get the event."""
    client = await told_resync(door)
    await client.send(*answers)
    client.engine.close("transport close")
    await door.node.delivery.drain()
    again = await door.client()
    await again.send(b'40/site,{"token":"t"}')
    await door.node.publish(SITE, "user_1", body=b'["fence"]')
    greeting = [packet.partition("[")[2] for packet in await received(again, 5 if is_repeated else 3)]
    assert ('"_resync"]' in greeting) is is_repeated


async def test_log(door: Door) -> None:
    """Log lines name the site and the device, never the token. A refusal names its reason."""
    with capture_logs() as lines:
        client = await door.connected(json_packet(token=TOKEN, deviceId="phone", meta="m-secret"))
        client.engine.close("transport close")
        door.directory.answer = "Authentication failed"
        refused = await door.client()
        await refused.send(json_packet(token=TOKEN).encode())
        await received(refused, 1)
    told = [(line["event"], line["site"]) for line in lines]
    assert told == [("connected", "site"), ("disconnected", "site"), ("connect refused", "site")]
    assert lines[0]["device"] == "phone"
    assert not any(secret in str(lines) for secret in (TOKEN, "m-secret"))


async def test_rows_for_the_journal(door: Door) -> None:
    """A connection that ends and a refusal are rows, without token and meta; without a journal there are none."""
    records = door.application._counts.records
    quiet = await door.connected(json_packet(token=TOKEN, deviceId="laptop"))
    records.is_kept = True
    quiet.engine.close("transport close")
    client = await door.connected(json_packet(token=TOKEN, deviceId="phone", meta="m-secret"))
    await door.node.publish(SITE, "user_1")
    await received(client, 1)
    client.engine.close("transport close")
    # It has a queue by now.
    again = await door.connected(json_packet(token=TOKEN, deviceId="phone"))
    (shown,) = door.application.live("site")
    assert (shown.facts and shown.facts.device, shown.measures().replay) == ("phone", 1)
    again.engine.close("transport close")
    assert list(door.application.live("site")) == []
    door.directory.answer = "Authentication failed"
    refused = await door.client()
    await refused.send(json_packet(token=TOKEN).encode())
    await received(refused, 1)
    rows = records.take()
    ended, second = rows["site", "connections"]
    assert (ended["user"], ended["device"], ended["version"]) == ("user_1", "phone", "4")
    assert (ended["protocol"], ended["reason"], ended["transport"]) == ("sites", "transport close", "websocket")
    assert 0 < ended["connected_at"] <= ended["disconnected_at"]
    assert (ended["bytes_read"], ended["bytes_written"]) == (100, 200)
    assert [(row["messages"], row["replay"]) for row in (ended, second)] == [(1, 0), (1, 1)]
    for name in ("authorise_ms", "sync_ms"):
        assert 0 <= ended[name] < 60_000, name
    (refusal,) = rows["site", "refusals"]
    assert refusal["reason"] == "Authentication failed"
    assert not any(secret in str(rows) for secret in (TOKEN, "m-secret"))


def json_packet(**auth: str) -> str:
    """A CONNECT packet with this payload."""
    return "40/site," + json.dumps(auth)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_pythons_own_client(door: Door, transport: str) -> None:
    """A client of python-socketio gets messages live, acknowledges them, and gets a replay of the others."""
    async with serving(door.server.asgi, interface="asgi3", access_log=False) as served:
        url = f"http://127.0.0.1:{served.port}?token=t&deviceId=d"

        async def connected(heard: list[str], batches: list[object]) -> Any:
            # python-socketio acknowledges an event when its handler returns: the handler of "kept" does not return.
            async def keep() -> None:
                heard.append("kept")
                await asyncio.Event().wait()

            client: Any = socketio.AsyncClient()  # type: ignore[no-untyped-call]  # python-socketio has no types
            client.on("kept", keep, namespace="/site")
            client.on("_batch", batches.append, namespace="/site")
            client.on("*", lambda event, *args: heard.append(event), namespace="/site")
            await client.connect(url, namespaces=["/site"], transports=[transport])
            await until(lambda: heard == ["_settings"], "the greeting")
            return client

        heard: list[str] = []
        client = await connected(heard, [])
        await door.node.publish(SITE, "user_1", body=b'["news"]')
        await until(lambda: heard == ["_settings", "news"], "the event")
        await until(lambda: not queue_of(door.valkey, SITE), "the ack")
        await door.node.publish(SITE, "user_1", body=b'["kept"]')
        await until(lambda: heard == ["_settings", "news", "kept"], "the event that is not acknowledged")
        await client.disconnect()
        batches: list[object] = []
        again = await connected([], batches)
        await until(lambda: batches == [[["kept"]]], "the batch")
        await until(lambda: not queue_of(door.valkey, SITE), "the ack of the batch")
        await again.disconnect()
        await door.server.shutdown()
