"""Receipts on one node without sockets: requests to the routes, as a tenant's backend makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tests.support.store import make_site

KEY = "54321-secret"
OTHER_KEY = "98765-secret"
SITE = make_site("shop", api_key=KEY, public_channel="public")
OTHER = make_site("other", api_key=OTHER_KEY)
PLAIN = make_site("plain", api_key=KEY, user_room_prefix=None)
KEEPER = make_site("keeper", api_key=KEY, journal_bodies=True)
SITES = {site.name: site for site in (SITE, OTHER, PLAIN, KEEPER)}


class Backend:
    """A tenant's backend that asks. Lives as long as its client."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Nothing is asked yet."""
        #: For requests of other forms.
        self.client = AsyncClient(transport=ASGITransport(Starlette(routes=list(routes))), base_url="http://test")

    async def close(self) -> None:
        """End the client."""
        await self.client.aclose()

    async def ask(
        self, path: str, method: str = "GET", site: str = "shop", key: str = KEY, text: bool = False, **query: Any
    ) -> Response:
        """One request; `text` asks for no JSON."""
        headers = {"x-api-key": key} | ({} if text else {"accept": "application/json"})
        parameters = {"site": site} | {name: str(value) for name, value in query.items()}
        return await self.client.request(method, path, params=parameters, headers=headers)

    async def get(self, path: str, site: str = "shop", key: str = KEY, **query: Any) -> dict[str, Any]:
        """The JSON of an answer with status 200."""
        answer = await self.ask(path, site=site, key=key, **query)
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()
        return value

    async def code(self, path: str, method: str = "GET", **query: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        answer = await self.ask(path, method, **query)
        value = answer.json()
        assert value["ok"] is False
        assert value["error"]
        return answer.status_code, value["code"]

    async def pages(self, path: str, items: str, limit: int, **query: Any) -> list[list[Any]]:
        """The items of all pages."""
        found: list[list[Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.get(path, limit=limit, **query, **cursor)
            assert len(page[items]) <= limit
            found.append(page[items])
            if page["cursor"] is None:
                return found
            cursor = {"cursor": page["cursor"]}
