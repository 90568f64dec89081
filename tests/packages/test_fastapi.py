"""The helpers for FastAPI, in this process: the client as a dependency, and the router for authUrl and the webhook."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from standardwebhooks import Webhook

from recado_client import AsyncClient
from recado_client.fastapi import PageToken, provide, recado_router
from tests.packages.conftest import KEY, SITE, Customers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET as HOOK_SECRET

SECONDS = 30.0
TOLD: list[Any] = []


async def prefix() -> str:
    """Another dependency of the application, as its database would be one."""
    return "user_"


async def rooms_of(token: PageToken, begin: Annotated[str, Depends(prefix)]) -> list[str] | None:
    """The rooms of a token: those of Ana."""
    return [f"{begin}8"] if token == "ana" else None


async def receive(event: Any) -> None:
    """Keep an event."""
    TOLD.append(event)


@pytest.fixture
async def recado(server: Deployment) -> AsyncIterator[AsyncClient]:
    """The client of the shop."""
    async with AsyncClient(server.url, SITE, KEY, webhook_secret=HOOK_SECRET) as client:
        yield client


@pytest.fixture
async def http(recado: AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to an application with the router."""
    app = FastAPI()
    app.include_router(recado_router(recado, rooms_of, receive), prefix="/recado")

    given = Depends(provide(recado))

    async def add(room: str, client: Any = given) -> str:
        return str((await client.send(room, "news")).id)

    app.post("/notes")(add)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        yield client


async def test_rooms(http: httpx.AsyncClient) -> None:
    """The router answers the rooms that the dependency gives for the token, and refuses where it gives none."""
    answer = await http.get("/recado/rooms", headers={"Authorization": "Bearer ana"})
    assert (answer.status_code, answer.json()) == (200, ["user_8"])
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer bob"}):
        assert (await http.get("/recado/rooms", headers=headers)).status_code == 401


async def test_events(http: httpx.AsyncClient) -> None:
    """The router hands in each event of a signed request, and answers 400 to others."""
    TOLD.clear()
    body = json.dumps({"data": {"events": [{"type": "user.online"}]}})
    now = datetime.now(UTC)
    headers = {"webhook-id": "1", "webhook-timestamp": str(int(now.timestamp()))}
    signed = headers | {"webhook-signature": Webhook(HOOK_SECRET).sign("1", now, body)}
    assert (await http.post("/recado/events", content=body, headers=signed)).status_code == 204
    assert TOLD == [{"type": "user.online"}]
    assert (await http.post("/recado/events", content=body, headers=headers)).status_code == 400
    assert (await http.post("/recado/events", content="x" * (2 << 20), headers=signed)).status_code == 400
    assert len(TOLD) == 1


async def test_the_client_is_a_dependency(http: httpx.AsyncClient, recado: AsyncClient, customers: Customers) -> None:
    """An endpoint sends with the client that it depends on."""
    user = customers.user()
    device = customers.connect(user)
    answer = await http.post("/notes", params={"room": user.room})
    assert answer.status_code == 200, answer.text
    device.wait_event("news", timeout_seconds=SECONDS)


async def test_the_client_ends_with_the_application(recado: AsyncClient) -> None:
    """The connections of the client are closed when the application ends."""
    app = FastAPI()
    app.include_router(recado_router(recado, rooms_of))
    async with app.router.lifespan_context(app):
        await recado.send("all", "news")
        opened = recado._opened
        assert opened is not None
    assert opened.is_closed
