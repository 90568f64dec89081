"""Users as operators list, see and change them, in both databases."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import insert, select, update

from app.clock import now_ms, rfc3339
from app.protocols.messenger.journal_tables import (
    chat_devices,
    chat_networks,
    chat_rooms,
    chat_sessions,
    chat_users,
)
from app.protocols.messenger.operations import journal_listed_users
from tests.protocols.messenger.operations.office import Office


async def test_the_list_in_pages(office: Office) -> None:
    """The users come page by page, in both orders, and no page leaves one out."""
    ids = await office.company.users("ann", "bob", "cleo", "dora", "eve")
    assert await office.pages("users.list", limit=2) == [ids[:2], ids[2:4], ids[4:]]
    assert await office.pages("users.list", limit=2, order="newest") == [ids[4:2:-1], ids[2:0:-1], ids[:1]]
    assert await office.pages("users.list", limit=5) == [ids]
    assert await office.refused("users.list", cursor="1 or 1") == "400 bad_parameter"


async def test_filters(office: Office) -> None:
    """The list is filtered by a part of login or name without case, by disabling, and by being an admin, also as a
    member of a room of admins."""
    ann, bob, cleo = await office.company.users("Ann_", "bob", "cleo")
    (root,) = await office.company.users("root", is_admin=True)
    await office.company.send(bob, "profile", name="Robert ANNAN")
    await office.company.disable(cleo)
    await office.company.room(members=[bob], kind="admins")
    filters: dict[str, dict[Any, list[int]]] = {
        "text": {"ANN": [ann, bob], "n_": [ann], "%": [], "eo": [cleo], "nobody": []},
        "disabled": {True: [cleo], False: [ann, bob, root]},
        "admin": {True: [bob, root], False: [ann, cleo]},
    }
    for name, expected in filters.items():
        for value, ids in expected.items():
            assert await office.pages("users.list", **{name: value}) == [ids], (name, value)
    assert await office.pages("users.list", admin=True, text="b", limit=1) == [[bob]]
    shown = (await office.do("users.list", text="bob"))["items"][0]
    assert (shown["admin"], shown["disabled"], shown["name"]) == (True, False, "Robert ANNAN")


async def test_online(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list has the users who are online, or the others; where one page would ask for too much, the next one goes
    on."""
    monkeypatch.setattr(journal_listed_users, "PART", 2)
    monkeypatch.setattr(journal_listed_users, "MOST_PARTS", 2)
    monkeypatch.setattr("app.protocols.messenger.directory.journal_viewers.PART", 2)
    ids = await office.company.users(*(f"user{number}" for number in range(9)))
    office.around.here = {*ids[:6], 2**40}
    for order in ("oldest", "newest"):
        step = 1 if order == "oldest" else -1
        for limit in (1, 3, 50):
            online = await office.pages("users.list", online=True, limit=limit, order=order)
            assert functools.reduce(operator.iadd, online, []) == ids[:6][::step]
            away = await office.pages("users.list", online=False, limit=limit, order=order)
            assert functools.reduce(operator.iadd, away, []) == ids[6:][::step]
    assert [item["online"] for item in (await office.do("users.list"))["items"]] == [True] * 6 + [False] * 3


async def test_one_user(office: Office) -> None:
    """A user is shown with rooms, contacts, devices and sessions, with its last login, and with its block."""
    ann, bob = await office.company.users("ann", "bob")
    room = await office.company.room(members=[ann, bob], admins=[ann], name="Lunch")
    await office.company.send(ann, "contact", user=bob)
    device = (await office.company.caller(ann, "phone")).device_id
    now = now_ms()
    session = {"site_id": 1, "user_id": ann, "device_id": device, "created_at": now}
    rows = [
        {"digest": bytes([ann % 256, number]), **session, "expires_at": now + time}
        for number, time in enumerate((60_000, -60_000))
    ]
    async with office.company.sql.writing(office.company.site) as (sql, _):
        await sql.execute(insert(chat_sessions), rows)
        await sql.execute(
            insert(chat_networks), [{"user_id": ann, "network": n, "at": at} for n, at in (("a", 5), ("b", 9))]
        )
        await sql.execute(update(chat_devices).where(chat_devices.c.id == device).values(os="Linux", seen_at=now))
    office.around.blocked = {"ann": 30}
    shown = await office.do("users.show", user=ann)
    assert (shown["login"], shown["online"], shown["contacts"], shown["blocked_seconds"]) == ("ann", False, 1, 30)
    assert shown["rooms"] == [{"id": room, "name": "Lunch", "kind": "chat", "archived": False, "admin": True}]
    assert next((one["id"], one["os"], one["seen_at"]) for one in shown["devices"]) == ("phone", "Linux", rfc3339(now))
    assert [one["device"] for one in shown["sessions"]] == ["phone"]
    assert (shown["device_count"], shown["session_count"], shown["last_login"]) == (2, 1, rfc3339(9))
    assert shown["user_room"] == f"user_{ann}"
    listed = (await office.do("users.list"))["items"][0]
    assert (listed["device_count"], listed["session_count"], listed["last_login"]) == (2, 1, rfc3339(9))
    assert await office.refused("users.show", user=2**40) == "404 unknown_user"


async def test_a_user_is_added(office: Office) -> None:
    """A user gets the password that is given, or one that is made and told once, and has to set another one; all see
    the user at once, and the history names the operator."""
    told = await office.do("users.add", login="Ann", password="given as text")
    assert told == {"ok": True, "id": told["id"], "login": "Ann"}
    made = await office.do("users.add", login="bob", name="Bob B.", admin=True)
    assert len(made["password"]) > 20
    shown = await office.do("users.show", user=made["id"])
    assert (shown["name"], shown["admin"], shown["must_change_password"]) == ("Bob B.", True, True)
    assert office.company.told.events[-1][2]["users"][0]["login"] == "bob"
    assert (await office.company.changes())[-1]["by"] == "operator:ana"
    for wrong in ({"login": "ANN"}, {"login": "a\x01"}, {"login": "c", "password": "\x01"}):
        assert await office.refused("users.add", **wrong) == "400 bad_request", wrong
    for wrong in ({"login": "c", "password": "x" * 257}, {"login": "c", "name": "a\0"}, {"login": ""}, {}):
        assert await office.refused("users.add", **wrong) == "400 bad_parameter", wrong


async def test_users_of_a_backend(office: Office) -> None:
    """Beside a backend users and rooms are listed and seen with the names that it gave; nobody is added, and what is
    the backend's to decide is refused. A room that was made here takes them in by these names."""
    own = await office.company.room(name="own")
    office.company.site = structs.replace(office.company.site, auth_url="http://127.0.0.1/rooms")
    async with office.company.sql.writing(office.company.site) as (sql, site_id):
        values = {"site_id": site_id, "external": "Ana", "name": "Ana", "created_at": 0}
        user = (await sql.execute(insert(chat_users).values(**values).returning(chat_users.c.id))).scalar_one()
        values = {"site_id": site_id, "external": "orders", "name": "Orders", "kind": "chat", "created_at": 0}
        room = (await sql.execute(insert(chat_rooms).values(**values).returning(chat_rooms.c.id))).scalar_one()
    listed = await office.do("users.list", text="na")
    assert (listed["has_backend"], [one["login"] for one in listed["items"]]) == (True, ["Ana"])
    shown = await office.do("users.show", user=user)
    assert (shown["of_backend"], shown["user_room"], shown["blocked_seconds"]) == (True, "user_Ana", 0)
    assert (await office.do("rooms.show", room=room))["core_room"] == "orders"
    await office.do("users.change", user=user, name="Ana A.")
    await office.do("users.end_sessions", user=user)
    await office.do("rooms.set_member", room=own, login="Ana")
    assert [one["login"] for one in (await office.do("rooms.show", room=own))["items"]] == ["Ana"]
    refused = [
        ("users.add", {"login": "ann"}),
        ("users.disable", {"user": user}),
        ("users.set_password", {"user": user}),
        ("users.change", {"user": user, "admin": True}),
        ("rooms.change", {"room": room, "name": "x"}),
        ("rooms.set_member", {"room": room, "user": user}),
        ("rooms.archive", {"room": room}),
    ]
    for name, given in refused:
        assert await office.refused(name, **given) == "409 of_backend", name


async def test_a_user_is_changed(office: Office) -> None:
    """An operator changes each value of a user; what is not given stays, and an empty text counts."""
    (ann,) = await office.company.users("ann")
    await office.do("users.change", user=ann, login="anna", name="Anna", sign="here", icon="A", admin=True)
    await office.do("users.change", user=ann, sign="")
    shown = await office.do("users.show", user=ann)
    values = [shown[name] for name in ("login", "name", "sign", "icon", "admin")]
    assert values == ["anna", "Anna", "", "A", True]
    event = office.company.told.events[-1][2]["users"][0]
    assert (event["login"], event["sign"], event["admin"]) == ("anna", "", True)
    await office.company.users("bob")
    assert await office.refused("users.change", user=ann, login="BOB") == "400 bad_request"
    assert await office.refused("users.change", user=2**40, name="x") == "404 unknown_user"


async def test_ends_of_sessions(office: Office) -> None:
    """A new password, disabling, and the action itself end the sessions of a user; enabling does not."""
    (ann,) = await office.company.users("ann")
    seen = [0]
    for action in ("users.set_password", "users.disable", "users.end_sessions"):
        await office.do(action, user=ann)
        seen.append(await office.company.voided(ann))
        assert seen[-1] > seen[-2], action
    await office.do("users.enable", user=ann)
    assert await office.company.voided(ann) == seen[-1]
    assert not (await office.do("users.show", user=ann))["disabled"]
    for action in ("users.set_password", "users.disable", "users.enable", "users.end_sessions", "users.unblock"):
        assert await office.refused(action, user=2**40) == "404 unknown_user", action


async def test_a_new_password(office: Office) -> None:
    """The password that is made is the one whose keys are kept, and it is shown nowhere else."""
    (ann,) = await office.company.users("ann")
    answer = await office.do("users.set_password", user=ann)
    assert set(answer) == {"ok", "login", "password"}
    assert set(await office.do("users.set_password", user=ann, password="given")) == {"ok", "login"}
    assert office.operations["users.set_password"].secrets == {"password"} == office.operations["users.add"].secrets
    async with office.company.sql.reading(office.company.site) as (sql, _):
        row = (await sql.execute(select(chat_users).where(chat_users.c.id == ann))).one()
    assert row.must_change
    assert row.stored_key is not None
    assert answer["password"] not in str(await office.company.changes())


async def test_a_block_is_lifted(office: Office) -> None:
    """The answer says whether there was a block."""
    (ann,) = await office.company.users("ann")
    office.around.blocked = {"ann": 30}
    assert await office.do("users.unblock", user=ann) == {"ok": True, "was_blocked": True}
    assert await office.do("users.unblock", user=ann) == {"ok": True, "was_blocked": False}


async def test_other_sites(office: Office) -> None:
    """The users, rooms and changes of another site are unknown, though their ids are right."""
    (ann,) = await office.company.users("ann")
    room = await office.company.room(members=[ann])
    first = office.company.site
    office.company.site = structs.replace(first, name=f"{first.name}-other")
    assert await office.pages("users.list") == [[]]
    assert await office.pages("rooms.list") == [[]]
    assert await office.pages("changes.list") == [[]]
    for action in ("show", "disable", "set_password", "end_sessions", "unblock"):
        assert await office.refused(f"users.{action}", user=ann) == "404 unknown_user", action
    for action in ("show", "change", "archive", "restore"):
        assert await office.refused(f"rooms.{action}", room=room) == "404 unknown_room", action
    assert await office.refused("rooms.set_member", room=room, user=ann) == "404 unknown_room"
    office.company.site = first
    assert (await office.do("users.show", user=ann))["login"] == "ann"
