"""Helpers for FastAPI: the client as a dependency, and a router for `authUrl` and the webhook.

recado = AsyncClient("https://push.example.com", "newsite", "54321")
Recado = Annotated[AsyncClient, Depends(provide(recado))]

async def rooms_of(token: PageToken) -> list[str] | None: ...  # a dependency, which may have others

app.include_router(recado_router(recado, rooms_of), prefix="/recado")  # GET /recado/rooms is the authUrl
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from recado_client.async_client import AsyncClient
from recado_client.auth_url import auth_answer, token_in
from recado_client.errors import BadWebhook
from recado_client.webhooks import MAX_BODY_BYTES


def _token_of(request: Request) -> str | None:
    return token_in(request.headers.get("Authorization"))


#: The token of the page in a request to `authUrl`; None without one.
PageToken = Annotated[str | None, Depends(_token_of)]


def provide(client: AsyncClient) -> Callable[[], AsyncClient]:
    """A dependency that gives the client; a test puts another in its place by `app.dependency_overrides`."""

    def provided() -> AsyncClient:
        return client

    return provided


def recado_router(
    client: AsyncClient,
    rooms_of: Callable[..., Any],
    receive: Callable[[Mapping[str, Any]], Any] | None = None,
) -> APIRouter:
    """`GET /rooms` for the site's `authUrl`, and `POST /events` for its webhook when `receive` is given.

    `rooms_of` is a dependency that gives the rooms, or None to refuse; `receive` gets each event. The client's
    connections are closed when the application ends.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        await client.aclose()

    async def rooms(found: Sequence[str | int] | None = Depends(rooms_of)) -> Response:
        answer = auth_answer(found)
        return Response(answer.body, answer.status, answer.headers)

    async def events(request: Request) -> Response:
        try:
            told = client.verify_webhook(await _body_of(request), request.headers)
        except BadWebhook:
            return Response(status_code=400)
        for event in told:
            kept = receive(event) if receive is not None else None
            if inspect.isawaitable(kept):
                await kept
        return Response(status_code=204)

    router = APIRouter(lifespan=lifespan)
    router.add_api_route("/rooms", rooms, methods=["GET"], include_in_schema=False)
    if receive is not None:
        router.add_api_route("/events", events, methods=["POST"], include_in_schema=False)
    return router


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BadWebhook("the body is too long")
    return bytes(body)
