"""A node's console without sockets, and a browser of an operator at it, as httpx sends requests."""

from __future__ import annotations

import re
from typing import Any

from httpx import ASGITransport, AsyncClient, Response

from app.config.settings import Config, ConsoleSettings
from app.console.operators import ROLES
from app.console.passwords import PasswordChecks
from app.console.protocol import CONSOLE
from app.console.sql_operators import SqlOperators
from app.ids import FlakeIds
from app.journal.database import open_database
from app.protocols.operations import Operation
from app.protocols.protocol import NodeServices
from app.protocols.reading import new_reading_pool
from app.store.node_calls import NodeCalls
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey

PASSWORD = "correct horse battery"
SITES = {name: make_site(name) for name in ("shop", "news")}
ADDRESS = "192.0.2.7"
_CSRF = re.compile(r'name="_csrf" value="([^"]+)"')


class ConsoleNode:
    """A node's console on a database. The code that starts it calls `close`."""

    def __init__(self, node: StoreNode, config: Config, operations: list[Operation]) -> None:
        """Make the console; `start` starts it."""
        self.store = node
        self._reading = new_reading_pool()
        parts = (node.redis, node.delivery, node.limits, FlakeIds(0, 0), node.counts)
        services = NodeServices(
            config, node.name, *parts, [], self._reading, NodeCalls(node.redis, node.name), operations=operations
        )
        self.console = CONSOLE.open(services)
        #: The same database, or an empty one beside a console without any.
        self.engine = open_database(config.journal_url or "sqlite:////dev/null")
        self.operators = SqlOperators(self.engine)
        self.passwords = PasswordChecks()
        #: The sites that it serves; a test may add one.
        self.sites = config.sites
        self._clients: list[AsyncClient] = []

    @classmethod
    async def start(
        cls,
        valkey: Valkey,
        url: str,
        operations: list[Operation] | None = None,
        console: ConsoleSettings | None = None,
    ) -> ConsoleNode:
        """Start a node with this database, these operations beside the console's own, and these settings."""
        store = await StoreNode.start(valkey, list(SITES.values()))
        return await cls.begin(store, url, operations or [], console)

    @classmethod
    async def begin(
        cls, store: StoreNode, url: str, operations: list[Operation], console: ConsoleSettings | None = None
    ) -> ConsoleNode:
        """Start a console beside a store, which it ends."""
        settings = console or ConsoleSettings()
        config = Config(sites=dict(SITES), redis_url="redis://localhost", database_url=url, console=settings)
        node = cls(store, config, operations)
        await node.console.start()
        return node

    async def close(self) -> None:
        """End everything."""
        for client in self._clients:
            await client.aclose()
        await self.console.drain(0)
        await self.console.close()
        self.passwords.close()
        await self.engine.dispose()
        self._reading.close()
        await self.store.close()

    async def add(self, name: str, role: str = "admin", sites: tuple[str, ...] | None = None) -> None:
        """Add an operator whose password is PASSWORD."""
        assert await self.operators.add(name, await self.passwords.hash(PASSWORD), ROLES[role], sites)

    def client(self, address: str = ADDRESS, scheme: str = "http") -> AsyncClient:
        """A browser that nobody has logged in with."""
        application: Any = self.console.application
        transport = ASGITransport(application, client=(address, 50_000))
        client = AsyncClient(transport=transport, base_url=f"{scheme}://console", headers={"accept": "text/html"})
        self._clients.append(client)
        return client

    async def visitor(self, name: str, role: str = "admin", sites: tuple[str, ...] | None = None) -> Visitor:
        """A new operator, logged in."""
        await self.add(name, role, sites)
        visitor = Visitor(self.client(), name)
        await visitor.log_in()
        return visitor

    async def token(self, name: str) -> str:
        """A token of an operator."""
        visitor = Visitor(self.client(), name)
        await visitor.log_in()
        answer = await visitor.do("tokens.add", name="test")
        found = re.search(r"recado_[\w-]+", answer.text)
        assert found, answer.text
        return found[0]


class Visitor:
    """An operator at the pages. Lives as long as its client."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        """Nobody is logged in yet."""
        self.client = client
        self.name = name

    async def log_in(self, password: str = PASSWORD) -> Response:
        """Log in."""
        return await self.client.post("/console/login", data={"name": self.name, "password": password})

    async def get(self, path: str) -> Response:
        """A page."""
        return await self.client.get(f"/console{path}")

    async def csrf(self) -> str:
        """The token of the login's forms."""
        found = _CSRF.search((await self.get("/tokens")).text)
        assert found, "a page with a form"
        return found[1]

    async def do(self, action: str, **fields: Any) -> Response:
        """Perform an action as the form of a page does."""
        return await self.client.post(f"/console/do/{action}", data={"_csrf": await self.csrf(), **fields})


def bearer(token: str) -> dict[str, str]:
    """The headers of a program with a token."""
    return {"authorization": f"Bearer {token}", "accept": "application/json"}


def kept_session(valkey: Valkey) -> tuple[bytes, bytes]:
    """The key and the content of the only session."""
    (key,) = valkey.client.keys("recado:console:session:*")
    kept = valkey.client.get(key)
    assert isinstance(key, bytes)
    assert isinstance(kept, bytes)
    return key, kept
