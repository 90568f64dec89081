"""The load test in a messenger: simulated users of its own, and real clients that take part."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from tests.load.test_load import NAME, Api, make_token
from tests.support.chat import MESSENGER, Chatting, make_users
from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.waiting import eventually

SITE = "team"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the server's database."""
    return f"sqlite:///{tmp_path_factory.mktemp('journal') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def deployment(database: str) -> Iterator[Deployment]:
    """A server with a messenger, an administrator with a token, and users."""
    # A user with a login that the load test would take.
    make_users(database, SITE, ["ann", "ben", "eve", "kim", "~load-9"])
    operator = {"RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": "a password of the test"}
    environment = {"DATABASE_URL": database, "RECADO_CANARY": "true", **operator}
    shop = {"apiKey": "k", "authUrl": "http://127.0.0.1:9/"}
    sites: dict[str, dict[str, Any]] = {SITE: {"apiKey": "k", "messenger": MESSENGER}, "shop": shop}
    server = Deployment(sites, environment=environment)
    eventually(lambda: asyncio.run(make_token(database)), "the operator", 60, interval_seconds=0.3)
    yield server
    server.end()


@pytest.fixture
def api(deployment: Deployment) -> Api:
    """The API of the server."""
    return Api(deployment)


@pytest.fixture
def team(deployment: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(deployment, drivers, SITE)
    yield chatting
    chatting.close()


def test_simulated_users(api: Api, team: Chatting) -> None:
    """Users of the load test's own log in and write to their room: every message is delivered, and every receipt told.
    The next run has the same users. Nobody else hears of the messages."""
    bystander = team.login("ann", "bystander")
    for users in (3, 2):
        found = api.wait(api.ask("POST", site=SITE, devices=users, messages=5)["id"])
        assert found["state"] == "done", found
        messages, deliveries = users * 5, users * 5 * (users - 1)
        counts = {"received": messages, "stored": messages, "forwarded": messages, "sent": deliveries}
        receipts = {f"receipts_{name}": deliveries for name in ("received", "stored", "told")}
        whole = {**counts, **receipts, "operations": 3 * messages + 4 * deliveries}
        assert (found["totals"]["counts"], found["totals"]["lost"]) == (whole, 0)
    people = bystander.ask("sync", {"cursor": None})["users"]
    assert sorted(one["login"] for one in people if one["login"].startswith("~")) == [
        f"~load-{number}" for number in (1, 2, 3, 9)
    ]
    assert "Load test" not in [one["name"] for one in bystander.ask("sync", {"cursor": None})["rooms"]]
    assert bystander.ask("search", {"text": "load"})["messages"] == []
    assert not {"message", "load_message"} & set(bystander.names())


def join(client: Client, room: int, messages: int) -> str:
    """Join a run as the module for pages does, once the server asks for it, behind the count of those that listen."""
    plan: dict[str, Any] = client.wait_event("load_test", 2).args[0]
    assert (plan["room"], plan["messages"]) == (room, messages)
    assert client.ask("load_join", {"run": plan["run"]}) == {"ok": True}
    return str(plan["run"])


def wish_of(run: str, room: int, number: int) -> dict[str, Any]:
    """A message of a run."""
    data = {"run": run, **({"ms": 1.5} if number else {})}
    return {"id": f"{run} {number}", "to": {"room": room}, "kind": "load", "text": f"load {number}", "data": data}


def rows_of(database: str) -> list[int]:
    """The rows of load tests, and those of real messages of their kind."""
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as sql:
        load = [f"SELECT count(*) FROM chat_load_{name}" for name in ("messages", "receipts", "runs")]
        real = "SELECT count(*) FROM chat_messages WHERE kind = 'load'"
        return [sql.execute(statement).fetchone()[0] for statement in (*load, real)]


def test_real_clients(api: Api, team: Chatting, database: str) -> None:
    """The clients in a room are asked for messages; those that send are counted, with their deliveries and receipts,
    and the times that they tell. Clients that have not joined get none of them, also at another device of a user who
    has, and nobody finds one later. A message of another kind does not count. With its totals a run is forgotten."""
    ann, ben, eve, kim = (team.login(login, "d1") for login in ("ann", "ben", "eve", "kim"))
    idle = team.login("ben", "d2")
    people = {one["login"]: one["id"] for one in ann.ask("sync", {"cursor": None})["users"]}
    members = [people[login] for login in ("ben", "eve", "kim")]
    room = ann.ask("room_create", {"name": "Test room", "members": members})["id"]
    eventually(lambda: room in [one["id"] for one in kim.ask("sync", {"cursor": None})["rooms"]], "the room", 60)
    assert ann.ask("message", wish_of("0-none", room, 0))["error"]["code"] == "bad_request"
    assert ann.ask("load_join", {"run": "0-none"})["error"]["code"] == "bad_request"
    id = api.ask("POST", site=SITE, room=room, messages=4, seconds=60)["id"]
    [run] = {join(client, room, 4) for client in (ann, ben, eve)}
    for client in (ann, ben):
        assert all(client.ask("message", wish_of(run, room, number))["ok"] for number in range(4))
    assert eve.ask("message", {"id": "e", "to": {"room": room}, "text": "not of the run"})["ok"]
    found = api.wait(id)
    assert found["state"] == "done", found
    assert ann.ask("message", wish_of(run, room, 9))["error"]["code"] == "bad_request"
    for client in (idle, kim, eve, ann):
        assert [one["kind"] for one in client.ask("history", {"with": {"room": room}})["messages"]] == ["text"]
    # Behind everything that these devices get.
    assert ann.ask("message", {"id": "last", "to": {"room": room}, "text": "last"})["ok"]
    for client in (idle, kim):
        client.wait_event("message", 2)
        assert not {"load_message", "load_receipt"} & set(client.names())
    assert [client.names().count("load_message") for client in (ann, ben, eve)] == [4, 4, 8]
    eventually(lambda: rows_of(database) == [0, 0, 0, 0], "the end of what the run has stored", 60)
    totals = found["totals"]
    assert totals["clients"] == 2
    counts = {"received": 8, "stored": 8, "forwarded": 8, "sent": 16}
    receipts = {f"receipts_{name}": 16 for name in ("received", "stored", "told")}
    assert totals["counts"] == {**counts, **receipts, "operations": 8 * 3 + 16 * 4}
    assert totals["store_ms"]["p50"] == 1.5
    assert totals["delivery_ms"]["most"] >= totals["delivery_ms"]["p50"] >= 0
    last = eve.wait_event("load_test", 3).args[0]
    assert (last["messages"], bool(last["run"])) == (0, True)


@pytest.mark.parametrize(
    ("plan", "status", "said"),
    [
        ({"room": 5}, 400, "expected a site"),
        ({"site": SITE, "devices": 1}, 400, "expected 2 to 50"),
        ({"site": SITE, "devices": 51}, 400, "expected 2 to 50"),
        ({"site": "x" * 257}, 400, "site"),
        ({"site": SITE, "room": -1}, 400, "room"),
    ],
)
def test_bounds(api: Api, plan: dict[str, Any], status: int, said: str) -> None:
    """A run that cannot be is refused in words."""
    assert said in api.ask("POST", status=status, **plan)["error"]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"site": "shop"}, "a site with a messenger"),
        ({"site": "nowhere"}, "a site with a messenger"),
        ({"site": SITE, "room": 987_654}, "no such room"),
    ],
)
def test_runs_that_fail(api: Api, plan: dict[str, Any], said: str) -> None:
    """A run in a place that there is not has failed, with the reason."""
    found = api.wait(api.ask("POST", **plan)["id"])
    assert (found["state"], said in found["totals"]["error"]) == ("failed", True)


def test_the_logins_are_not_taken_from_users(api: Api, team: Chatting) -> None:
    """A user that somebody else has made keeps its password: the run fails."""
    found = api.wait(api.ask("POST", site=SITE, devices=9)["id"])
    assert (found["state"], found["totals"]["error"]) == ("failed", "The login ~load-9 is taken.")
    team.login("~load-9", "d1")
