"""POST /rooms through its route, and the order to a node. On a real Valkey, with a crew of this node alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette

from app.errors import RequestRefused
from app.protocols.operations import Actor, Call, Role
from app.protocols.site_keys import INVALID
from app.protocols.sites.disconnecting import KickInputs, Kicks
from app.protocols.sites.joining import (
    MOST_CHANGED_ROOMS,
    MOST_CHANGES,
    RoomChanges,
    RoomsInputs,
    rooms_operations,
    rooms_routes,
)
from app.protocols.sites.revocation import Revocation
from tests.protocols.sites.crew import Crew
from tests.protocols.sites.door import BOUND, SITE, SITES, Door, received
from tests.protocols.sites.test_admission import come_back, ticket_in
from tests.socketio.socket_case import Client
from tests.support.store import make_message

KEY = "secret"


class World:
    """The door of a node, and a backend that changes rooms. Lives for one test."""

    def __init__(self, door: Door, crew: Crew, client: AsyncClient, changes: RoomChanges) -> None:
        self.door = door
        self.crew = crew
        self.client = client
        self.changes = changes

    async def post(self, site: str = "site", **body: Any) -> tuple[int, Any]:
        """The answer."""
        answer = await self.client.post(f"/rooms?site={site}", json=body, headers={"x-api-key": KEY})
        return answer.status_code, answer.json()

    async def join(self, rooms: list[str], device: str = "d", site: str = "site") -> Client:
        """A client in these rooms."""
        self.door.directory.answer = rooms
        return await self.door.connected(f"40/{site}?token=t&deviceId={device}")

    async def send(self, *rooms: str) -> None:
        """A message to rooms of the site."""
        await self.door.node.delivery.publish(make_message(SITE, list(rooms)))


@pytest.fixture
async def world(door: Door) -> AsyncIterator[World]:
    """A node with the route."""
    crew = Crew()
    changes = RoomChanges(crew, door.node.delivery.follow_up, door.application.live, door.node.tickets)
    routes = rooms_routes(SITES, changes, door.node.counts)
    async with AsyncClient(transport=ASGITransport(Starlette(routes=routes)), base_url="http://test") as client:
        yield World(door, crew, client, changes)


async def test_a_user_joins_and_leaves(world: World) -> None:
    """All devices of the user hear the room from the answer on, and nothing after they have left; others are not
    moved."""
    mine = [await world.join(["user_1"], device) for device in ("a", "b")]
    stranger = await world.join(["user_2"])
    assert await world.post(user="user_1", join=["News"]) == (200, {"devices": 2})
    await world.send("news")
    for client in mine:
        assert len(await received(client, 1)) == 1
    assert await world.post(user="user_1", leave=["NEWS"]) == (200, {"devices": 2})
    await world.send("news")
    await world.send("user_1", "user_2")
    for client in (*mine, stranger):
        assert len(await received(client, 1)) == 1


async def test_an_end_of_the_room_s_connections_means_new_members(world: World) -> None:
    """POST /disconnect by room ends those who have joined since, and leaves those alone who have left."""
    kicks = Kicks(world.crew, world.door.application.live, Revocation(world.door.node.tickets), world.door.node.counts)
    await world.join(["user_1", "Old"])
    await world.post(user="user_1", join=["New"], leave=["old"])
    assert await kicks.kick(SITE, KickInputs(room="old")) == (0, 0)
    assert await kicks.kick(SITE, KickInputs(room="new")) == (1, 0)
    await kicks.aclose()


async def test_the_next_connect_decides_again(world: World) -> None:
    """The rooms of the answer of authUrl are those of the user then."""
    await world.join(["user_1"])
    await world.post(user="user_1", join=["news"])
    again = await world.join(["user_1"])
    await world.send("news")
    await world.send("user_1")
    assert len(await received(again, 1)) == 1


async def test_tickets_go_first(world: World) -> None:
    """A ticket does not bring the old rooms back."""
    world.door.directory.answer = ["user_1"]
    _, settings, *_ = await come_back(world.door, token="t", deviceId="d")
    assert await world.post("back", user="user_1", join=["news"]) == (200, {"devices": 1})
    (refusal,) = await come_back(world.door, deviceId="d", ticket=ticket_in(settings))
    assert "the resume ticket was revoked" in refusal


async def test_a_user_that_nobody_knows(world: World) -> None:
    """Nothing is kept of it, and the answer says so."""
    assert await world.post(user="user_9", join=["news"]) == (200, {"devices": 0})


async def test_too_many_rooms(world: World) -> None:
    """A user stays within the site's `rooms_per_connection`; past it nothing changes. Leaving always works."""
    await world.join(["user_1"], site="bound")
    assert await world.post("bound", user="user_1", join=["a"]) == (200, {"devices": 1})
    most = BOUND.limits.rooms_per_connection
    text = f"join: expected at most {most} rooms of a user, with those that it is in."
    assert await world.post("bound", user="user_1", join=["b"]) == (400, {"error": text})
    assert await world.post("bound", user="user_1", join=["b"], leave=["a"]) == (200, {"devices": 1})


@pytest.mark.parametrize(
    ("site", "body", "error"),
    [
        ("site", {}, "Object missing required field `user`."),
        ("site", {"user": "user_1"}, "Expected one of join and leave."),
        ("site", {"user": "x", "join": ["a"]}, "user: expected a user room of this site"),
        ("site", {"user": "public", "join": ["a"]}, "user: expected a user room of this site"),
        ("site", {"user": "user_1", "join": ["user_2"]}, "join: expected rooms of many users, got a user room."),
        ("site", {"user": "user_1", "leave": ["public"]}, "leave: expected rooms of many users, got a user room."),
        ("site", {"user": "user_1", "join": ["a"], "leave": ["A"]}, "leave: expected other rooms than in join."),
        ("site", {"user": "user_1", "join": [""]}, "join[0]: Expected `str` matching regex"),
        ("site", {"user": "user_1", "join": ["a"] * (MOST_CHANGED_ROOMS + 1)}, "join: Expected `array` of length"),
        ("plain", {"user": "user_1", "join": ["a"]}, "This site has no users, because it has no userRoomPrefix."),
    ],
)
async def test_mistakes(world: World, site: str, body: dict[str, Any], error: str) -> None:
    """Each is named, and nothing changes."""
    status, answer = await world.post(site, **body)
    assert (status, answer["error"][: len(error)]) == (400, error)


async def test_keys(world: World) -> None:
    """Without the site's key nothing is done."""
    answer = await world.client.post("/rooms?site=site&apiKey=x", json={"user": "user_1", "join": ["a"]})
    assert (answer.status_code, answer.json()) == (401, {"error": INVALID})


async def test_nodes_that_do_not_answer(world: World) -> None:
    """The answer is 503 then, and while Redis is away; the caller repeats it."""
    await world.join(["user_1"])
    world.crew.silent = {"n2": "The node does not answer"}
    error = {"error": "Not every node has answered, try again.", "devices": 1}
    assert await world.post(user="user_1", join=["news"]) == (503, error)
    world.crew.is_away = True
    assert await world.post(user="user_1", join=["news"]) == (503, {"error": "Redis is away, try again."})


async def test_few_at_once(world: World) -> None:
    """A site has few of these requests under way: each looks at all its connections."""
    world.crew.gate = asyncio.Event()
    posts = [asyncio.ensure_future(world.post(user="user_1", join=["a"])) for _ in range(MOST_CHANGES + 1)]
    done, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
    assert [post.result()[0] for post in done] == [429]
    world.crew.gate.set()
    assert sorted(status for status, _ in await asyncio.gather(*posts)) == [*[200] * MOST_CHANGES, 429]


async def test_an_operator_does_the_same(world: World) -> None:
    """The operation has the same inputs and rules, and the request of a backend stands in the audit."""
    world.door.node.counts.records.is_kept = True
    (operation,) = rooms_operations(world.changes)
    await world.join(["user_1"])
    call = Call(Actor("ana", Role.OPERATOR), RoomsInputs(user="user_1", join=("news",)), SITE)
    assert await operation.run(call) == {"ok": True, "devices": 1, "silent_nodes": 0}
    with pytest.raises(RequestRefused, match="Expected one of"):
        await operation.run(Call(call.caller, RoomsInputs(user="user_1"), SITE))
    await world.post(user="user_1", join=["sport"])
    (row,) = world.door.node.counts.records.take()["site", "audit"]
    assert (row["action"], row["operator"]) == ("connections.rooms", "the site's backend")
    assert msgspec.json.decode(row["detail"])["join"] == ["sport"]
