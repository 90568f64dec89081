"""Sessions of real clients on two nodes: the time to log in, renewal, the sessions of other devices and those before a
new password, and the measured time of a login."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from app.config.settings import Site
from app.journal.tables import connections
from app.protocols.messenger.entrance import LOGIN_LATE
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.scram import keys_of
from tests.support.chat import ITERATIONS, MESSENGER, Chatting, Scram, log_in, make_users, password_of
from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.endpoint import Endpoint
from tests.support.hasty_node import FASTER
from tests.support.waiting import eventually

SITE = "team"
SITES = {SITE: {"apiKey": "k", "messenger": {**MESSENGER, "session_ttl": 60, "fail_count": 1000}}}
LOGINS = ["ann", "bob", "eve"]


class Place:
    """The nodes of this module, and their database. Lives for the module."""

    def __init__(self, url: str) -> None:
        """Make the users, and start the nodes."""
        self._url = url
        self.ids = make_users(url, SITE, LOGINS)
        environment = {"DATABASE_URL": url, "TEST_MODULE": "tests.support.hasty_node"}
        self.server = Deployment(SITES, environment=environment, nodes=2)

    def connection_of(self, device: str) -> Any:
        """The journal's row of a connection that has ended; None: it is not there yet."""

        async def read() -> Any:
            store = ChatSql.open(self._url)
            try:
                async with store.reading(Site(name=SITE, api_key="k")) as (sql, site_id):
                    mine = (connections.c.site_id == site_id, connections.c.device == device)
                    return (await sql.execute(select(connections).where(*mine))).one_or_none()
            finally:
                await store.close()

        return asyncio.run(read())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two nodes of this module's own."""
    place = Place(f"sqlite:///{tmp_path_factory.mktemp('sessions') / 'journal.sqlite'}")
    yield place
    place.server.end()


@pytest.fixture
def team(place: Place, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(place.server, drivers, SITE)
    yield chatting
    chatting.close()


def session_of(client: Client) -> str:
    """The session of a client that has logged in."""
    return str(client.wait_event("_settings").args[0]["session"])


def upload_begun(node: Endpoint, session: str) -> int:
    """The status of an upload that a session begins."""
    headers = {"authorization": f"Bearer {session}", "tus-resumable": "1.0.0", "upload-length": "5"}
    return int(node.post("/team/files/", headers=headers).status_code)


def test_the_time_of_a_login(place: Place, team: Chatting) -> None:
    """The journal measures from the first `login` of a connection until the client is in, also over wrong proofs and
    whatever the client does in between."""
    client = team.stranger("measured")
    first = client.ask("login", {"data": Scram("ann", "wrong").first})
    assert first["ok"]
    began_at = time.monotonic()
    for _ in range(3):
        assert log_in(client, "ann", "wrong")["error"]["code"] == "wrong_login"
    assert client.ask("sync", {})["error"]["code"] == "not_logged_in"
    least_ms = (time.monotonic() - began_at) * 1000
    assert log_in(client, "ann")["ok"]
    client.wait_event("_settings")
    most_ms = (time.monotonic() - began_at) * 1000
    client.disconnect()
    row = eventually(lambda: place.connection_of("measured"), "the row of the connection", 60)
    # (The clocks of two processes, both in whole milliseconds.)
    assert least_ms - 2 <= row.authorise_ms
    assert row.authorise_ms <= most_ms + 1000


def test_a_stranger_has_thirty_seconds(team: Chatting) -> None:
    """A client that does not log in is disconnected after 30 s, on a clock that runs fast; others stay."""
    patient = team.stranger("other")
    began_at = time.monotonic()
    late = team.stranger("late")
    late.wait_disconnected()
    assert time.monotonic() - began_at >= 30 / FASTER
    assert log_in(patient, "ann")["ok"]
    counts = [node.get("/metrics").text for node in team.nodes]
    assert any(f'reason="{LOGIN_LATE}"' in text for text in counts)


def test_a_session_is_renewed(team: Chatting) -> None:
    """After half of its life a client gets another session, which counts for its device and on every node."""
    client = team.login("bob", "renewed")
    first = session_of(client)
    renewed = client.wait_event("_session").args[0]
    assert renewed.keys() == {"session"}
    assert renewed["session"] != first
    for session in (renewed["session"], first):
        team.resume(session, "renewed").disconnect()
    assert team.begin(team.call("another", session=renewed["session"])).wait_refused() == "session_void"


def test_sessions_of_other_devices(team: Chatting) -> None:
    """The session of a device counts for no other device, neither for a socket nor for a client of the other user."""
    session, other = session_of(team.login("ann", "mine")), session_of(team.login("bob", "theirs"))
    for device, token in (("theirs", session), ("mine", other), ("Mine", session), ("mine ", session)):
        assert team.begin(team.call(device, session=token)).wait_refused() == "session_void"


def test_sessions_after_a_new_password(team: Chatting, place: Place) -> None:
    """A new password ends all other sessions of the user, connected or not, for sockets and files, on every node; those
    of other users go on."""
    away = team.login("eve", "away")
    old = [session_of(away), session_of(team.login("eve", "here"))]
    away.disconnect()
    other = session_of(team.login("bob", "other"))
    client = team.login("eve", "changing")
    old.append(session_of(client))
    keys = keys_of("another pass word", ITERATIONS)
    named = {"salt": keys.salt, "stored_key": keys.stored_key, "server_key": keys.server_key}
    encoded = {name: base64.b64encode(value).decode() for name, value in named.items()}
    scram = Scram("eve", password_of("eve"))
    first = client.ask("login", {"data": scram.first})
    proof = {"data": scram.final(first["data"]), "iterations": keys.iterations, **encoded}
    answer = client.ask("password", proof)
    assert answer["ok"], answer
    for node in place.server.nodes:
        assert upload_begun(node, answer["session"]) == 201
        assert [upload_begun(node, token) for token in old] == [401] * 3
    for device, token in zip(("away", "here", "changing"), old, strict=True):
        assert team.begin(team.call(device, session=token)).wait_refused() == "session_void"
    team.resume(answer["session"], "changing")
    team.resume(other, "other")
