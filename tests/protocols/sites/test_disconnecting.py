"""POST /disconnect through its route, and the order to a node. On a real Valkey, with a crew of this node alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette

from app.core.draining import leave_seconds
from app.errors import RequestRefused
from app.protocols.operations import Actor, Call, Role
from app.protocols.site_keys import INVALID, MISSING
from app.protocols.sites import disconnecting
from app.protocols.sites.disconnecting import (
    MAX_KICK_TEXT,
    MOST_KICKS,
    KickInputs,
    Kicks,
    disconnect_operations,
    disconnect_routes,
)
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.orders import MAX_ORDER_BYTES
from app.protocols.sites.revocation import Revocation
from tests.protocols.sites.crew import Crew
from tests.protocols.sites.door import BACK, SITE, SITES, Door, received
from tests.protocols.sites.test_admission import come_back, ticket_in
from tests.socketio.socket_case import Client
from tests.support.waiting import until

KEY = "secret"


class World:
    """The door of a node, and a backend that ends connections. Lives for one test."""

    def __init__(self, door: Door, crew: Crew, client: AsyncClient, kicks: Kicks) -> None:
        self.door = door
        self.crew = crew
        self.client = client
        self.kicks = kicks

    async def post(self, site: str = "site", **body: Any) -> tuple[int, Any]:
        """The answer."""
        answer = await self.client.post(f"/disconnect?site={site}", json=body, headers={"x-api-key": KEY})
        return answer.status_code, answer.json()

    async def join(self, site: str, rooms: list[str], device: str = "d", version: int = 4) -> Client:
        """A client in these rooms."""
        self.door.directory.answer = rooms
        return await self.door.connected(f"40/{site}?token=t&deviceId={device}", version)


@pytest.fixture
async def world(door: Door) -> AsyncIterator[World]:
    """A node with the route."""
    crew = Crew()
    kicks = Kicks(crew, door.application.live, Revocation(door.node.tickets), door.node.counts)
    routes = disconnect_routes(SITES, kicks, door.node.counts)
    async with AsyncClient(transport=ASGITransport(Starlette(routes=routes)), base_url="http://test") as client:
        yield World(door, crew, client, kicks)
    await kicks.aclose()


def told(client: Client) -> list[str]:
    """The packets since the last look."""
    return [packet.decode() for packet in client.received()]


@pytest.mark.parametrize("version", [3, 4])
async def test_who_is_meant(world: World, version: int) -> None:
    """All given fields have to be right: the user exactly, the room without case, the device. The client is told the
    text and leaves the site; its transport stays."""
    one = await world.join("site", ["user_1", "News"], "a", version)
    two = await world.join("site", ["user_1", "news"], "b", version)
    three = await world.join("site", ["user_2", "news"], "a", version)
    assert await world.post(user="user_3") == (200, {"disconnected": 0})
    assert await world.post(user="user_1", room="other") == (200, {"disconnected": 0})
    assert await world.post(user="USER_1") == (400, {"error": _NO_USER_ROOM})
    assert await world.post(user="user_1", device="b", text="Bye") == (200, {"disconnected": 1})
    assert told(two) == ['42/site,["_closed",{"reason":"Bye"}]', "41/site,"]
    assert two.socket.closed_with is None
    assert await world.post(device="a", room="NEWS", reconnect=True) == (200, {"disconnected": 2})
    for client in (one, three):
        assert told(client) == ['42/site,["_closed",{"reason":"disconnected"}]']
        assert client.engine.listener is None
    counts = world.door.node.counts.of("site")
    assert (counts.connections, counts.closes["ended by the backend"]) == (0, 3)
    assert counts.part(SitesCounts).kicked == 3


_NO_USER_ROOM = "user: expected a user room of this site, which begins with its userRoomPrefix."


async def test_a_site_without_queues(world: World) -> None:
    """There rooms and devices are meant; it has no users."""
    client = await world.join("plain", ["News"])
    assert await world.post("plain", user="user_1") == (400, {"error": _NO_USER_ROOM})
    assert await world.post("plain", room="news", text="") == (200, {"disconnected": 1})
    assert told(client)[0] == '42/plain,["_closed",{"reason":""}]'


async def test_tickets_go_first(world: World) -> None:
    """A client that was ended does not come back by its ticket; a device alone is refused, because tickets are revoked
    by room."""
    world.door.directory.answer = ["user_1"]
    _, settings, *_ = await come_back(world.door, token="t", deviceId="d")
    assert await world.post("back", device="d") == (
        400,
        {"error": "user: expected it beside device, because this site has resume tickets."},
    )
    assert await world.post("back", user="user_1", device="d") == (200, {"disconnected": 1})
    (refusal,) = await come_back(world.door, deviceId="d", ticket=ticket_in(settings))
    assert "the resume ticket was revoked" in refusal
    assert BACK.name == "back"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", "Expected one of user, device and room."),
        (b"", "Body: expected a JSON object in UTF-8."),
        (b"{", "Body: expected a JSON object in UTF-8."),
        (b"\xff", "Body: expected a JSON object in UTF-8."),
        (b'{"user":', "Body: expected a JSON object in UTF-8."),
        (b"[]", "Expected `object`, got `array`."),
        (b'{"users":"x"}', "Object contains unknown field `users`."),
        (b'{"user":5}', "user: Expected `str | null`, got `int`."),
        (b'{"user":""}', "user: Expected `str` matching regex"),
        (b'{"room":"a","text":"%s"}' % (b"x" * (MAX_KICK_TEXT + 1)), "text: Expected `str` of length <= 500."),
        (b'{"room":"%s"}' % (b"x" * 1_001), "room: Expected `str` of length <= 1000."),
        (b" " * (MAX_ORDER_BYTES + 1), f"Body: expected at most {MAX_ORDER_BYTES} bytes."),
    ],
)
async def test_mistakes(world: World, body: bytes, error: str) -> None:
    """Each is named, and nobody is ended."""
    await world.join("site", ["user_1"])
    answer = await world.client.post("/disconnect?site=site", content=body, headers={"x-api-key": KEY})
    assert answer.status_code == (413 if len(body) > MAX_ORDER_BYTES else 400)
    assert answer.json()["error"].startswith(error)
    assert world.door.node.counts.of("site").connections == 1


async def test_keys(world: World) -> None:
    """Without the site's key nothing is done, and a wrong key looks like an unknown site."""
    for query, status, error in (
        ("", 400, MISSING),
        ("site=site", 400, MISSING),
        ("site=site&apiKey=x", 401, INVALID),
        (f"site=unknown&apiKey={KEY}", 401, INVALID),
    ):
        answer = await world.client.post(f"/disconnect?{query}", json={"user": "user_1"})
        assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert (await world.client.get("/disconnect")).status_code == 405


async def test_nodes_that_do_not_answer(world: World) -> None:
    """The answer is 503 then, with the number so far, and while Redis is away; the caller repeats it."""
    await world.join("site", ["user_1"])
    world.crew.silent = {"n2": "The node does not answer"}
    error = {"error": "Not every node has answered, try again.", "disconnected": 1}
    assert await world.post(user="user_1") == (503, error)
    world.crew.is_away = True
    assert await world.post(user="user_1") == (503, {"error": "Redis is away, try again."})


async def test_few_at_once(world: World) -> None:
    """A site has few of these requests under way: each looks at all its connections."""
    world.crew.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(world.post(user="user_1")) for _ in range(MOST_KICKS + 1)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in done] == [429]
    world.crew.gate.set()
    assert sorted(status for status, _ in await asyncio.gather(*tasks)) == [*[200] * MOST_KICKS, 429]


class Target:
    """A connection without a client. Lives for one test."""

    def __init__(self, done: list[str]) -> None:
        self.device_id = "d"
        self.rooms = ("news",)
        self.is_over = False
        self._done = done

    def kick(self, text: str, *, comes_back: bool) -> None:
        """Note it."""
        self.is_over = True
        self._done.append(text)


async def test_many_are_ended_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has the number at once, and the ends are spread over a time; each turn looks at some connections."""
    done: list[str] = []
    targets = [Target(done) for _ in range(1_200)]
    monkeypatch.setattr(disconnecting, "leave_seconds", lambda count: leave_seconds(count) / 10)
    monkeypatch.setattr(world.kicks, "_live", lambda site: iter(targets))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    assert await world.kicks.obey({"site": "site", "inputs": {"room": "news", "text": "x"}}) == 1_200
    counting.cancel()
    assert turns >= 2
    assert len(done) < 1_200
    await until(lambda: len(done) == 1_200, "all ends")
    await until(lambda: not world.kicks._ending, "the end of the work")


async def test_an_operator_does_the_same(world: World) -> None:
    """The operation has the same inputs and rules, and the request of a backend stands in the audit."""
    world.door.node.counts.records.is_kept = True
    (operation,) = disconnect_operations(world.kicks)
    await world.join("site", ["user_1"])
    call = Call(Actor("ana", Role.OPERATOR), KickInputs(user="user_1"), SITE)
    assert await operation.run(call) == {"ok": True, "disconnected": 1, "silent_nodes": 0}
    with pytest.raises(RequestRefused, match="Expected one of"):
        await operation.run(Call(call.caller, KickInputs(), SITE))
    await world.post(user="user_1", text="Bye")
    (row,) = world.door.node.counts.records.take()["site", "audit"]
    assert (row["action"], row["operator"]) == ("connections.kick", "the site's backend")
    assert msgspec.json.decode(row["detail"])["text"] == "Bye"


async def test_a_client_that_was_ended_may_join_again(world: World) -> None:
    """The next connect is decided like any other: authUrl is asked again."""
    client = await world.join("site", ["user_1"])
    await world.post(user="user_1")
    told(client)
    asked = len(world.door.directory.asked)
    await client.send(b'40/site,{"token":"t"}')
    assert "_settings" in (await received(client, 2))[1]
    assert len(world.door.directory.asked) == asked + 1
