"""The load test in a messenger: simulated users of its own, and real clients that take part."""

from __future__ import annotations

import asyncio
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
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server with a messenger, an administrator with a token, and three users."""
    database = f"sqlite:///{tmp_path_factory.mktemp('journal') / 'journal.sqlite'}"
    # A user with a login that the load test would take.
    make_users(database, SITE, ["ann", "ben", "eve", "~load-9"])
    operator = {"RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": "a password of the test"}
    environment = {"DATABASE_URL": database, "RECADO_CANARY": "true", **operator}
    shop = {"apiKey": "k", "authUrl": "http://127.0.0.1:9/"}
    sites: dict[str, dict[str, Any]] = {SITE: {"apiKey": "k", "messenger": MESSENGER}, "shop": shop}
    server = Deployment(sites, environment=environment)
    eventually(lambda: asyncio.run(make_token(database)), "the operator", 30, interval_seconds=0.3)
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
    rooms = {one["id"] for one in bystander.ask("sync", {"cursor": None})["rooms"]}
    found = bystander.ask("search", {"text": "load"})["messages"]
    assert [one for one in found if one["to"]["room"] not in rooms] == []
    assert not [name for name in bystander.names() if name == "message"]


def take_part(client: Client, room: int, messages: int) -> None:
    """Send as the module for pages does, once the server asks for it, behind the count of those that listen."""
    plan: dict[str, Any] = client.wait_event("load_test", 2).args[0]
    assert (plan["room"], plan["messages"]) == (room, messages)
    for number in range(messages):
        data = {"run": plan["run"], **({"ms": 1.5} if number else {})}
        wish = {"id": f"{plan['run']} {number}", "to": {"room": room}, "kind": "load", "text": "load", "data": data}
        assert client.ask("message", wish)["ok"]


def test_real_clients(api: Api, team: Chatting) -> None:
    """The clients in a room are asked for messages; those that send are counted, with their deliveries and receipts,
    and the times that they tell. A message of another kind does not count."""
    ann, ben, eve = (team.login(login, "d1") for login in ("ann", "ben", "eve"))
    people = {one["login"]: one["id"] for one in ann.ask("sync", {"cursor": None})["users"]}
    room = ann.ask("room_create", {"name": "Test room", "members": [people["ben"], people["eve"]]})["id"]
    eventually(lambda: room in [one["id"] for one in eve.ask("sync", {"cursor": None})["rooms"]], "the room", 20)
    id = api.ask("POST", site=SITE, room=room, messages=4, seconds=60)["id"]
    take_part(ann, room, 4)
    take_part(ben, room, 4)
    assert eve.ask("message", {"id": "e", "to": {"room": room}, "text": "not of the run"})["ok"]
    found = api.wait(id)
    assert found["state"] == "done", found
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
