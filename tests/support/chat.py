"""Messengers in tests: users made in their database, and real clients that log in by SCRAM with another library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from scramp import ScramClient

from app.config.settings import Site
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_users import NewUser, add_user
from app.protocols.messenger.scram import keys_of
from tests.support.clients import ACK_ALL, MODERN, AckPolicy, Client, ClientKind, ConnectCall
from tests.support.connector import Drivers
from tests.support.deployment import Deployment

#: The fixture that makes databases of a kind.
NewDatabase = Callable[[str], str]
#: The fewest iterations that are allowed: tests log in often.
ITERATIONS = 4096
#: The section of a site with a messenger, for tests.
MESSENGER = {"iterations": ITERATIONS, "events_per_second": 1000}


def password_of(login: str) -> str:
    """The password that `make_users` gives a user."""
    return f"pass word of {login}"


def make_users(url: str, site: str, logins: Iterable[str], **more: Any) -> dict[str, int]:
    """Make users in the database of a server, which may run; their ids by login."""

    async def make() -> dict[str, int]:
        sql = ChatSql.open(url)
        try:
            await sql.make_tables()
            made = {}
            for login in logins:
                keys = keys_of(password_of(login), ITERATIONS)
                new = NewUser(**{"login": login, "keys": keys, "must_change": False, **more})
                async with sql.writing(Site(name=site, api_key="k")) as (connection, site_id):
                    made[login] = (await add_user(connection, site_id, new, "test")).id
            return made
        finally:
            await sql.close()

    return asyncio.run(make())


class Scram:
    """One login as a client of another implementation makes it. Lives until its proof was sent."""

    def __init__(self, login: str, password: str) -> None:
        """Make the first message."""
        self._client = ScramClient(["SCRAM-SHA-256"], login, password)
        self.first: str = self._client.get_client_first()

    def final(self, server_first: str) -> str:
        """The client's last message."""
        self._client.set_server_first(server_first)
        return str(self._client.get_client_final())

    def check(self, server_final: str) -> None:
        """Raise unless the server has proved that it knows the keys."""
        self._client.set_server_final(server_final)


class Chatting:
    """The clients of one test at one site. Lives as long as the test, which closes it."""

    def __init__(self, server: Deployment, drivers: Drivers, site: str, url: str | None = None) -> None:
        """Start without clients. `url` is that of one node, where clients are not to come to any."""
        self.server = server
        self.url = url or server.url
        self.nodes = server.nodes
        self.site = site
        self._drivers = drivers
        self._opened: list[Client] = []

    def call(self, device: str = "d1", kind: ClientKind = MODERN, ack: AckPolicy = ACK_ALL, **auth: Any) -> ConnectCall:
        """The options of a connect."""
        said = {"deviceId": device, **auth}
        if kind.has_auth:
            return ConnectCall(kind, self.url, self.site, auth=said, ack=ack)
        return ConnectCall(kind, self.url, self.site, query=said, ack=ack)

    def begin(self, call: ConnectCall) -> Client:
        """Begin to connect; does not wait."""
        client = (self._drivers.python if call.kind.library == "python" else self._drivers.node).connect(call)
        self._opened.append(client)
        return client

    def stranger(self, device: str = "d1", kind: ClientKind = MODERN, **auth: Any) -> Client:
        """A client that is connected and has not logged in."""
        client = self.begin(self.call(device, kind, **auth))
        client.wait_connected()
        return client

    def login(
        self, login: str, device: str = "d1", kind: ClientKind = MODERN, ack: AckPolicy = ACK_ALL, **auth: Any
    ) -> Client:
        """A client that has logged in; returns after `_settings`."""
        client = self.begin(self.call(device, kind, ack, **auth))
        client.wait_connected()
        answer = log_in(client, login)
        assert answer["ok"], answer
        client.wait_event("_settings")
        return client

    def resume(self, session: str, device: str = "d1", kind: ClientKind = MODERN) -> Client:
        """A client that has taken its session up again; returns after `_settings`."""
        client = self.begin(self.call(device, kind, session=session))
        client.wait_connected()
        client.wait_event("_settings")
        return client

    def close(self) -> None:
        """End every client."""
        for client in self._opened:
            client.forget()


def log_in(client: Client, login: str, password: str | None = None) -> Any:
    """Log a connected client in; the answer to `proof`, or that to a refused `login`."""
    scram = Scram(login, password_of(login) if password is None else password)
    first = client.ask("login", {"data": scram.first})
    if not first["ok"]:
        return first
    answer = client.ask("proof", {"data": scram.final(first["data"])})
    if answer["ok"]:
        scram.check(answer["data"])
    return answer
