"""A node with Pusher's HTTP API, and a backend that signs its requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.routing import Route

from app.ids import FlakeIds
from app.protocols.reading import new_reading_pool
from app.protocols.sites.disconnecting import Kicks
from app.protocols.sites.pusher.apps import PusherApps
from app.protocols.sites.pusher.endpoint import PusherEndpoint, PusherParts
from app.protocols.sites.pusher.occupancy import Occupancy
from app.protocols.sites.revocation import Revocation
from app.protocols.sites.sender import Sender
from tests.protocols.sites.crew import Crew
from tests.protocols.sites.door import SITES, Door
from tests.protocols.sites.pusher.signing import signed_query
from tests.socketio.socket_case import Client

MAX_BODY_BYTES = 200_000


class PusherWorld:
    """The door of a node, and a backend with the packages' ways. Lives for one test."""

    def __init__(self, door: Door, crew: Crew, client: AsyncClient) -> None:
        self.door = door
        self.crew = crew
        self.client = client

    async def ask(
        self, method: str, path: str, body: Any = None, *, app: str = "101", query: str = "", **signing: Any
    ) -> httpx.Response:
        """The answer to a signed request; bytes are the body as it is."""
        content = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        whole = f"/apps/{app}{path}"
        query = query or signed_query(method, whole, content, **signing)
        return await self.client.request(method, f"{whole}?{query}", content=content)

    async def trigger(self, **event: Any) -> tuple[int, str]:
        """The answer to an event."""
        answer = await self.ask("POST", "/events", {"name": "news", "data": "x", "channels": ["room"], **event})
        return answer.status_code, answer.text

    async def join(self, rooms: list[str], device: str = "d", site: str = "pushed") -> Client:
        """A client in these rooms."""
        self.door.directory.answer = rooms
        return await self.door.connected(f"40/{site}?token=t&deviceId={device}")


@pytest.fixture
async def world(door: Door) -> AsyncIterator[PusherWorld]:
    """A node with the paths."""
    crew, counts, live = Crew(), door.node.counts, door.application.live
    kicks = Kicks(crew, live, Revocation(door.node.tickets), counts)
    reading = new_reading_pool()
    sender = Sender(door.node.delivery, FlakeIds(1, 1))
    parts = PusherParts(
        PusherApps(SITES), sender, Occupancy(crew, SITES, live), kicks.end_user, reading, counts, MAX_BODY_BYTES
    )
    routes = [Route("/apps/{rest:path}", PusherEndpoint(parts))]
    async with AsyncClient(transport=ASGITransport(Starlette(routes=routes)), base_url="http://test") as client:
        yield PusherWorld(door, crew, client)
    reading.close()
    await kicks.aclose()
