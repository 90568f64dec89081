"""Rooms in both databases: made, changed, left and archived; who is told, and what the history keeps."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import insert, select

from app.protocols.messenger.bounds import MAX_MEMBERS
from app.protocols.messenger.directory import journal_rooms
from app.protocols.messenger.journal_tables import chat_users
from tests.protocols.messenger.directory.directory_ground import Company


async def test_a_room_is_made(company: Company) -> None:
    """Its maker is a member and an admin; the core hears of the members, all are told, and it is kept."""
    ann, bob, eve = await company.users("ann", "bob", "eve")
    about = {"type": "order", "id": "7"}
    answer = await company.send(ann, "room_create", name="sales", members=[bob], object=about, history=True)
    room = answer["id"]
    shown = {
        "id": room,
        "name": "sales",
        "kind": "chat",
        "icon": "",
        "description": "",
        "object": about,
        "history": True,
        "receipts": True,
        "archived": False,
        "members": [ann, bob],
        "admins": [ann],
    }
    assert company.told.events == [({ann, bob}, "directory", {"rooms": [shown]})]
    assert await company.moves() == [("join", f"room_{room}", f"user_{user}") for user in (ann, bob)]
    assert company.woken == [company.site]
    change = (await company.changes())[-1]
    assert (change["what"], change["of_id"], change["before"], change["by"]) == ("room", room, None, f"user:{ann}")
    assert msgspec.json.decode(change["after"])["members"] == [ann, bob]
    assert eve not in shown["members"]


async def test_members_come_and_go(company: Company) -> None:
    """The lists are whole new ones: who is not named leaves, and hears that the room is gone; the history has what has
    changed alone."""
    ann, bob, eve = await company.users("ann", "bob", "eve")
    room = await company.room([ann, bob], [ann])
    company.told.events.clear()
    await company.send(ann, "room_change", id=room, members=[ann, eve], admins=[ann, eve])
    (to, _, data), (lost, _, gone) = company.told.events
    assert to == {ann, eve}
    assert (data["rooms"][0]["members"], data["rooms"][0]["admins"]) == ([ann, eve], [ann, eve])
    assert (lost, gone) == ({bob}, {"rooms": [{"id": room, "deleted": True}]})
    assert (await company.moves())[-2:] == [
        ("leave", f"room_{room}", f"user_{bob}"),
        ("join", f"room_{room}", f"user_{eve}"),
    ]
    change = (await company.changes())[-1]
    assert msgspec.json.decode(change["before"]) == {"members": [bob], "admins": []}
    assert msgspec.json.decode(change["after"]) == {"members": [eve], "admins": [eve]}


async def test_nothing_changes(company: Company) -> None:
    """A change to what is so already is written down and told to nobody."""
    (ann,) = await company.users("ann")
    room = await company.room([ann], [ann])
    count = len(await company.changes())
    company.told.events.clear()
    await company.send(ann, "room_change", id=room, name="room", members=[ann])
    await company.send(ann, "room_archive", id=room, archived=False)
    assert company.told.events == []
    assert len(await company.changes()) == count


async def test_a_room_is_archived_and_taken_back(company: Company) -> None:
    """It is shown so to its members."""
    (ann,) = await company.users("ann")
    room = await company.room([ann], [ann])
    for is_archived in (True, False):
        await company.send(ann, "room_archive", id=room, archived=is_archived)
        assert company.told.events[-1][2]["rooms"][0]["archived"] is is_archived


async def test_the_last_admin_leaves(company: Company) -> None:
    """Another member becomes an admin; the last member leaves an empty room."""
    ann, bob = await company.users("ann", "bob")
    room = await company.room([ann, bob], [bob])
    await company.send(bob, "room_leave", id=room)
    assert company.told.events[-2][2]["rooms"][0]["admins"] == [ann]
    assert await company.code(bob, "room_leave", id=room) == "not_member"
    await company.send(ann, "room_leave", id=room)
    assert company.told.events[-1] == ({ann}, "directory", {"rooms": [{"id": room, "deleted": True}]})


async def test_rooms_of_admins(company: Company) -> None:
    """Their members are admins, as long as they are members and the room is not archived; only admins make, change and
    fill them."""
    ann, bob = await company.users("ann", "bob")
    (root,) = await company.users("root", is_admin=True)
    assert await company.code(ann, "room_create", name="us", kind="admins") == "not_admin"
    own = (await company.send(ann, "room_create", name="us"))["id"]
    assert await company.code(ann, "room_change", id=own, kind="admins") == "not_admin"
    room = (await company.send(root, "room_create", name="us", kind="admins", members=[ann, bob]))["id"]
    assert (await company.caller(ann)).me.is_admin
    assert [data["users"][0]["admin"] for _, _, data in company.told.events if "users" in data] == [True, True]
    assert await company.code(ann, "user_create", login="new") == "ok"
    await company.send(root, "room_change", id=room, members=[root, ann])
    assert await company.code(bob, "user_create", login="newer") == "not_admin"
    await company.send(root, "room_archive", id=room)
    assert await company.code(ann, "user_create", login="newest") == "not_admin"
    assert (await company.caller(root)).me.is_admin
    changes = [one for one in await company.changes() if one["what"] == "user" and one["of_id"] == ann][1:]
    assert [msgspec.json.decode(one["after"]) for one in changes] == [{"admin": True}, {"admin": False}]


async def test_bad_lists(company: Company, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are users of the site, admins are members, and no user is in too many rooms; else nothing changes."""
    (ann,) = await company.users("ann")
    other = await Company.open(database, "other")
    (stranger,) = await other.users("eve")
    await other.close()
    assert await company.code(ann, "room_create", name="r", members=[stranger]) == "unknown_user"
    assert await company.code(ann, "room_create", name="r", members=[2**40]) == "unknown_user"
    room = await company.room([ann], [ann])
    assert await company.code(ann, "room_change", id=room, members=[ann], admins=[ann, 99]) == "bad_request"
    assert await company.code(ann, "room_change", id=room, members=[]) == "ok"
    monkeypatch.setattr(journal_rooms, "MAX_ROOMS_OF_USER", 1)
    assert await company.code(ann, "room_create", name="one") == "ok"
    assert await company.code(ann, "room_create", name="two") == "too_many"
    monkeypatch.setattr(journal_rooms, "MAX_ROOMS", 1)
    assert await company.code(ann, "room_create", name="three") == "too_many"


async def test_a_room_of_the_largest_size(company: Company) -> None:
    """A room takes as many members as it may have in one transaction, and lets them go again."""
    (ann,) = await company.users("ann")
    async with company.sql.writing(company.site) as (sql, site_id):
        rows = [
            {"site_id": site_id, "login": f"user {number}", "login_key": f"user {number}", "created_at": 1}
            for number in range(MAX_MEMBERS - 1)
        ]
        await sql.execute(insert(chat_users), rows)
        all_of_site = select(chat_users.c.id).where(chat_users.c.site_id == site_id).order_by(chat_users.c.id)
        users = list((await sql.execute(all_of_site)).scalars())
    room = await company.room(users, [ann])
    moves = await company.moves()
    assert moves == [("join", f"room_{room}", f"user_{user}") for user in users]
    assert await company.code(ann, "room_change", id=room, members=[ann], admins=[ann]) == "ok"
    assert (await company.moves())[len(moves) :] == [("leave", f"room_{room}", f"user_{user}") for user in users[1:]]
