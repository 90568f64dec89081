"""Presence in rooms with real clients on two nodes: GET /presence, `_presence`, `_join` and `_leave`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.clients import Client, each_library
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

GRACE_SECONDS = 1.0
MEMBERS = 4
#: A node counts as dead 7 s after its last beat; the rest is slack for a busy machine.
BURIED_WITHIN_SECONDS = 40.0

At = Callable[[int], Connector]


@pytest.fixture(scope="module")
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a short grace, a long grace, presence in some rooms, and without presence."""
    some = contract_sites(tenant)["alpha"]
    sites = {
        "quick": {**some, "presence": {"grace": GRACE_SECONDS, "members": MEMBERS}},
        "slow": {**some, "presence": {"grace": 3600}},
        "some": {**some, "publicChannel": "public", "presence": {"rooms": ["team-*", "Lobby"]}},
        "off": some,
    }
    server = Deployment(sites, {"log_level": "debug"}, nodes=2)
    yield server
    server.end()


@pytest.fixture
def at(deployment: Deployment, drivers: Drivers) -> Iterator[At]:
    """Clients of one node."""
    connectors = [Connector(node, drivers) for node in deployment.nodes]
    yield lambda number: connectors[number]
    for connector in connectors:
        connector.close()


def show(
    deployment: Deployment, site: str, room: str, node: int = 0, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer of GET /presence."""
    endpoint = deployment.nodes[node]
    key = {} if headers else {"apiKey": str(deployment.sites[site]["apiKey"])}
    return endpoint.get("/presence", params={"site": site, "room": room, **key}, headers=headers)


def picture_of(client: Client, state: dict[str, Any], room: str) -> dict[str, Any]:
    """The knowledge of a client of a room after the state that it was answered and all events since."""
    users = None if "users" not in state else {one["user"]: one["since"] for one in state["users"]}
    count = state["count"]
    for event in client.events():
        content = event.args[0] if event.args else {}
        if event.name not in ("_presence", "_join", "_leave") or content["room"] != room:
            continue
        count = content["count"]
        if event.name == "_presence":
            users = {one["user"]: one["since"] for one in content["users"]} if "users" in content else None
            continue
        assert users is not None, "no user is told of one by one where there are too many"
        for user in content["users"]:
            if event.name == "_join":
                assert user["user"] not in users, "nobody joins twice"
                users[user["user"]] = user["since"]
            else:
                assert user in users, "nobody leaves twice"
                del users[user]
        assert len(users) == count
    return {"count": count, "users": users}


def shown_picture(deployment: Deployment, site: str, room: str, node: int = 0) -> dict[str, Any]:
    """The same by GET /presence."""
    shown = show(deployment, site, room, node).json()
    users = None if "users" not in shown else {one["user"]: one["since"] for one in shown["users"]}
    return {"count": shown["count"], "users": users}


def users_told(client: Client, name: str) -> list[str]:
    """The users in all events of this name."""
    users = [one for event in client.events() if event.name == name for one in event.args[0]["users"]]
    return [one if isinstance(one, str) else one["user"] for one in users]


@each_library
def test_a_client_hears_of_others(at: At, deployment: Deployment, tenant: Tenant, kind: Any) -> None:
    """The answer has those who are there, `_join` each user that comes, on whatever node, and `_leave` each that is
    gone for longer than the grace; a second device changes nothing. GET /presence has the same."""
    room = tenant.unique("room")
    one, two = tenant.user(room), tenant.user(room)
    client = at(0)("quick", one, kind)
    state = client.ask("_presence", room)
    assert "users" in state, state
    assert [user["user"] for user in state["users"]] == [one.room]
    other = at(1)("quick", two)
    (joined,) = client.wait_event("_join").args[0]["users"]
    assert joined["user"] == two.room
    second = at(0)("quick", two, device="d2")
    shown = show(deployment, "quick", room, 1).json()
    assert "users" in shown, shown
    assert [(user["user"], user["devices"]) for user in shown["users"]] == [(one.room, 1), (two.room, 2)]
    assert (shown["count"], shown["devices"], shown["room"]) == (2, 3, room)
    other.disconnect()
    eventually(lambda: show(deployment, "quick", room).json()["devices"] == 2, "the first device to be away")
    second.disconnect()
    assert client.wait_event("_leave").args[0] == {"room": room, "users": [two.room], "count": 1}
    eventually(
        lambda: picture_of(client, state, room) == shown_picture(deployment, "quick", room), "the pictures to be equal"
    )
    assert (users_told(client, "_join"), users_told(client, "_leave")) == ([two.room], [two.room])


def test_an_answer_without_a_callback(at: At, tenant: Tenant) -> None:
    """The answer is an event then; rooms are compared without case, and named in lower case."""
    room = tenant.unique("Room")
    user = tenant.user(room)
    client = at(0)("quick", user)
    client.begin_ask("_presence", room.upper())
    client.wait_event("_settings")
    state = client.ask("_presence", room)
    assert (state["room"], state["count"]) == (room.lower(), 1)


def test_a_reload_is_no_leave(at: At, deployment: Deployment, tenant: Tenant) -> None:
    """A user that comes back within the grace, on the other node too, has neither left nor joined; meanwhile it is
    present without a device, since it has come."""
    room = tenant.unique("room")
    one, two = tenant.user(room), tenant.user(room)
    client, other = at(0)("slow", one), at(0)("slow", two)
    state = client.ask("_presence", room)
    since = {user["user"]: user["since"] for user in state["users"]}
    for number in (1, 0):
        other.disconnect()
        eventually(lambda: show(deployment, "slow", room).json()["devices"] == 1, "the user to be without a device")
        assert {user["user"]: user["since"] for user in show(deployment, "slow", room).json()["users"]} == since
        other = at(number)("slow", two)
    at(1).fence("slow", room, client)
    assert (users_told(client, "_join"), users_told(client, "_leave")) == ([], [])
    assert picture_of(client, state, room) == shown_picture(deployment, "slow", room, 1)


def test_a_client_that_has_stopped_hears_nothing(at: At, tenant: Tenant) -> None:
    """With `false` the room is watched no more; another watcher goes on."""
    room = tenant.unique("room")
    clients = [at(0)("quick", tenant.user(room)) for _ in range(2)]
    for client in clients:
        assert "users" in client.ask("_presence", room)
    assert clients[0].ask("_presence", room, False) == {"room": room}
    user = tenant.user(room)
    at(1)("quick", user)
    eventually(lambda: user.room in users_told(clients[1], "_join"), "the other watcher to hear")
    at(1).fence("quick", room, clients[0])
    assert user.room not in users_told(clients[0], "_join")


def test_rooms_that_a_backend_changes(at: At, deployment: Deployment, tenant: Tenant) -> None:
    """POST /rooms brings a join and, without a grace, a leave. It ends the watch of a user that leaves."""
    room = tenant.unique("room")
    watcher, moved = tenant.user(room), tenant.user()
    client, other = at(0)("slow", watcher), at(1)("slow", moved)
    assert other.ask("_presence", room)["error"] == "You are not in this room."
    state = client.ask("_presence", room)
    _change_rooms(deployment, moved, join=[room])
    eventually(lambda: users_told(client, "_join") == [moved.room], "the join")
    assert other.ask("_presence", room)["count"] == 2
    _change_rooms(deployment, moved, leave=[room])
    eventually(lambda: users_told(client, "_leave") == [moved.room], "the leave")
    eventually(
        lambda: (
            [one.args[0].get("error") for one in other.events() if one.name == "_presence"]
            == ["You are not in this room."]
        ),
        "the end of the watch",
    )
    assert other.ask("_presence", room)["error"] == "You are not in this room."
    assert picture_of(client, state, room) == shown_picture(deployment, "slow", room)


def test_a_room_with_too_many_users(at: At, deployment: Deployment, tenant: Tenant) -> None:
    """Above `members` there is the number only, for backends and watchers; when users are few again, they are named."""
    room = tenant.unique("room")
    user = tenant.user(room)
    client = at(0)("quick", user)
    state = client.ask("_presence", room)
    others = [at(number % 2)("quick", tenant.user(room)) for number in range(MEMBERS + 2)]
    many = {"count": MEMBERS + 3, "users": None}
    eventually(lambda: picture_of(client, state, room) == many, "the number alone")
    assert shown_picture(deployment, "quick", room, 1) == many
    assert at(1)("quick", tenant.user(room)).ask("_presence", room) == {"room": room, "count": MEMBERS + 4}
    for other in others[:-1]:
        other.disconnect()
    eventually(
        lambda: (
            picture_of(client, state, room)["users"] is not None
            and picture_of(client, state, room) == shown_picture(deployment, "quick", room)
        ),
        "the users by name again",
        40,
    )


def test_a_killed_node(at: At, deployment: Deployment, tenant: Tenant) -> None:
    """The users of a node that is killed leave once, when it is taken out and their grace is over. A user with a device
    on another node stays, and one that comes back in time has not left. The watchers of the node are forgotten."""
    room = tenant.unique("room")
    watcher, stays, returns, *gone = (tenant.user(room) for _ in range(5))
    client = at(0)("quick", watcher)
    at(0)("quick", stays, device="here")
    for user in (stays, returns, *gone):
        assert "count" in at(1)("quick", user).ask("_presence", room)
    state = client.ask("_presence", room)
    assert state["count"] == MEMBERS + 1
    node = deployment.nodes[1]
    node.kill()
    try:
        at(0)("quick", returns, device="again")
        eventually(
            lambda: shown_picture(deployment, "quick", room)["count"] == 3,
            "the users to have left",
            BURIED_WITHIN_SECONDS,
        )
        eventually(
            lambda: picture_of(client, state, room) == shown_picture(deployment, "quick", room), "equal pictures", 40
        )
        eventually(lambda: not _watching(deployment, room, 1), "the node's watches to be taken out", 60)
        assert set(shown_picture(deployment, "quick", room)["users"]) == {watcher.room, stays.room, returns.room}
    finally:
        node.start()


def test_presence_that_is_off(at: At, tenant: Tenant) -> None:
    """In a site without presence the event is as any other one: confirmed and dropped."""
    user = tenant.user("room")
    client = at(0)("off", user)
    client.begin_ask("_presence", "room")
    at(0).fence("off", user.room, client)
    assert "_presence" not in client.names()


@pytest.mark.parametrize(
    ("site", "room", "error"),
    [
        ("off", "room", "This site has no presence, see its setting `presence`."),
        ("some", "other", "room: expected a room of many users that the site's setting `presence` names."),
        ("some", "user_1", "room: expected a room of many users that the site's setting `presence` names."),
        ("some", "public", "room: expected a room of many users that the site's setting `presence` names."),
        ("quick", "", "room: Expected `str` matching regex"),
        ("quick", "a\x00", "room: Expected `str` matching regex"),
        ("quick", "x" * 1_001, "room: Expected `str` of length <= 1000."),
    ],
)
def test_rooms_that_cannot_be_asked_for(deployment: Deployment, site: str, room: str, error: str) -> None:
    """Each mistake is named."""
    answer = show(deployment, site, room)
    assert (answer.status_code, answer.json()["error"][: len(error)]) == (400, error)


def test_keys(deployment: Deployment) -> None:
    """The key is given in the query, as X-API-Key or as Authorization, and refused as at /send."""
    key = deployment.key("quick")
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {}):
        assert show(deployment, "quick", "room", headers=headers).json() == {
            "room": "room",
            "count": 0,
            "devices": 0,
            "users": [],
        }
    assert show(deployment, "quick", "room", headers={"X-API-Key": "x"}).status_code == 401
    for query, status, error in (
        ({"site": "quick", "apiKey": "x"}, 401, "ApiKey invalid."),
        ({"site": "none", "apiKey": key}, 401, "ApiKey invalid."),
        ({"site": "quick"}, 400, "Missing query param 'site' or 'apiKey'."),
        ({"apiKey": key}, 400, "Missing query param 'site' or 'apiKey'."),
    ):
        answer = deployment.nodes[0].get("/presence", params={"room": "room", **query})
        assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_reserved_events(deployment: Deployment) -> None:
    """No backend sends the events of presence."""
    for event in ("_presence", "_join", "_leave"):
        answer = deployment.try_send("quick", {"rooms": ["room"], "event": event})
        assert (answer.status_code, answer.text) == (400, f"event: {event} is reserved.")


def _change_rooms(deployment: Deployment, user: User, **change: list[str]) -> None:
    query = {"site": "slow", "apiKey": deployment.key("slow")}
    answer = deployment.nodes[0].post("/rooms", params=query, json={"user": user.room, **change})
    assert (answer.status_code, answer.json()["devices"]) == (200, 1)


def _watching(deployment: Deployment, room: str, node: int) -> bool:
    """Whether more than one node watches a room."""
    fields: Any = deployment.redis.client.hkeys(f"recado:{{quick}}:watch:{room}")
    return len([field for field in fields if field.startswith(b"n:")]) > node
