"""Rooms, registrations and the history as operators list, see and change them, in both databases."""

from __future__ import annotations

import functools
import operator
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from app.protocols.messenger.directory.journal_registrations import Applicant, register
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.operations import journal_listed_changes
from app.protocols.messenger.scram import keys_of
from app.protocols.messenger.settings import Messenger
from tests.protocols.messenger.operations.office import Office


async def test_the_list_in_pages(office: Office) -> None:
    """The rooms come page by page, filtered by a part of the name, kind and archiving, with their counts."""
    ann, bob = await office.company.users("ann", "bob")
    lunch = await office.company.room(name="Lunch", members=[ann, bob], admins=[ann])
    news = await office.company.room(name="News", kind="channel")
    root = await office.company.room(name="Root", kind="admins", members=[bob])
    await office.do("rooms.archive", room=news)
    assert await office.pages("rooms.list", limit=2) == [[lunch, news], [root]]
    assert await office.pages("rooms.list", order="newest") == [[root, news, lunch]]
    filters: list[tuple[dict[str, Any], list[int]]] = [
        ({"kind": "admins"}, [root]),
        ({"archived": True}, [news]),
        ({"archived": False}, [lunch, root]),
        ({"text": "NEW"}, [news]),
        ({"text": "_"}, []),
    ]
    for given, expected in filters:
        assert await office.pages("rooms.list", **given) == [expected], given
    first = (await office.do("rooms.list"))["items"][0]
    assert (first["member_count"], first["admin_count"], first["archived"]) == (2, 1, False)
    assert await office.refused("rooms.list", limit=201) == "400 bad_parameter"


async def test_one_room(office: Office) -> None:
    """A room is shown with its members, page by page."""
    users = await office.company.users("ann", "bob", "cleo")
    room = await office.company.room(members=users, admins=users[1:2], about=("doc", "7"))
    assert await office.pages("rooms.show", room=room, limit=2) == [users[:2], users[2:]]
    shown = await office.do("rooms.show", room=room)
    assert [(one["login"], one["admin"]) for one in shown["items"]] == [("ann", False), ("bob", True), ("cleo", False)]
    assert (shown["object"], shown["member_count"], shown["core_room"]) == (
        {"type": "doc", "id": "7"},
        3,
        f"room_{room}",
    )
    assert await office.refused("rooms.show", room=2**40) == "404 unknown_room"


async def test_a_room_is_added(office: Office) -> None:
    """Members and admins are named by id or by login; they hear of the room, the core hears of its members, and the
    operator is no member."""
    ann, bob, cleo = await office.company.users("ann", "bob", "Cleo")
    made = await office.do("rooms.add", name="Lunch", members=[ann], member_logins="BOB\n\n", admin_logins=" cleo ")
    shown = await office.do("rooms.show", room=made["id"])
    assert [(one["id"], one["admin"]) for one in shown["items"]] == [(ann, False), (bob, False), (cleo, True)]
    to, _, data = office.company.told.events[-1]
    assert (to, data["rooms"][0]["name"]) == ({ann, bob, cleo}, "Lunch")
    assert [kind for kind, *_ in await office.company.moves()] == ["join"] * 3
    assert len(office.company.woken) == 1
    assert (await office.company.changes())[-1]["by"] == "operator:ana"
    assert await office.refused("rooms.add", name="x", member_logins="nobody") == "404 unknown_user"
    assert await office.refused("rooms.add", name="x", members=[2**40]) == "404 unknown_user"
    assert await office.refused("rooms.add", name="x", object_type="doc") == "400 bad_parameter"
    assert await office.refused("rooms.add", name="") == "400 bad_parameter"
    assert await office.pages("rooms.list") == [[made["id"]]]


async def test_a_room_is_changed(office: Office) -> None:
    """Each value of a room changes alone; lists of members and admins are whole ones."""
    ann, bob = await office.company.users("ann", "bob")
    room = await office.company.room(members=[ann], admins=[ann], about=("doc", "7"))
    await office.do("rooms.change", room=room, name="News", kind="channel", description="d", icon="N", history=True)
    shown = await office.do("rooms.show", room=room)
    values = [shown[name] for name in ("name", "kind", "description", "icon", "history", "receipts", "object")]
    assert values == ["News", "channel", "d", "N", True, False, {"type": "doc", "id": "7"}]
    await office.do("rooms.change", room=room, description="", object_type="", object_id="", receipts="kept")
    shown = await office.do("rooms.show", room=room)
    assert [shown[name] for name in ("description", "receipts", "receipts_by_kind", "object")] == [
        "",
        True,
        False,
        None,
    ]
    await office.do("rooms.change", room=room, receipts="kind", members=[bob], admins=[bob])
    shown = await office.do("rooms.show", room=room)
    assert [(one["id"], one["admin"]) for one in shown["items"]] == [(bob, True)]
    assert shown["receipts_by_kind"]
    assert office.company.told.events[-1] == ({ann}, "directory", {"rooms": [{"id": room, "deleted": True}]})
    assert await office.refused("rooms.change", room=room, admins=[ann]) == "400 bad_request"


async def test_members_one_by_one(office: Office) -> None:
    """A user becomes a member by id or login, an admin of the room or none, and is taken out; the others stay."""
    ann, bob = await office.company.users("ann", "bob")
    room = await office.company.room(members=[ann], admins=[ann])

    async def members() -> list[tuple[int, bool]]:
        return [(one["id"], one["admin"]) for one in (await office.do("rooms.show", room=room))["items"]]

    assert await office.do("rooms.set_member", room=room, login="BOB") == {"ok": True, "user": bob}
    assert await members() == [(ann, True), (bob, False)]
    await office.do("rooms.set_member", room=room, user=bob, admin=True)
    await office.do("rooms.set_member", room=room, user=ann, admin=False)
    assert await members() == [(ann, False), (bob, True)]
    await office.do("rooms.set_member", room=room, user=bob)
    await office.do("rooms.remove_member", room=room, user=ann)
    assert await members() == [(bob, True)]
    assert await office.refused("rooms.remove_member", room=room, user=ann) == "404 unknown_user"
    assert await office.refused("rooms.set_member", room=room) == "400 bad_parameter"
    assert await office.refused("rooms.set_member", room=room, login="nobody") == "404 unknown_user"


async def test_the_archive(office: Office) -> None:
    """A room is archived and taken back, and its members hear of it."""
    (ann,) = await office.company.users("ann")
    room = await office.company.room(members=[ann])
    for action, is_archived in (("rooms.archive", True), ("rooms.restore", False)):
        await office.do(action, room=room)
        assert (await office.do("rooms.show", room=room))["archived"] is is_archived
        assert office.company.told.events[-1][2]["rooms"][0]["archived"] is is_archived


async def test_registrations(office: Office) -> None:
    """Registrations that wait are listed, accepted and refused, once each; a login that a user has is marked."""
    await office.company.users("ann")
    stranger = ChatDoer("stranger", is_admin=False)
    for login in ("ANN", "bob", "cleo"):
        new = Applicant(login, login.title(), keys_of("secret", 4096), "10.0.0.0/24")
        await office.company.directory.change(office.company.site, stranger, partial(register, new=new))
    answer = await office.do("registrations.list")
    assert [(one["login"], one["login_taken"]) for one in answer["items"]] == [
        ("ANN", True),
        ("bob", False),
        ("cleo", False),
    ]
    assert answer["is_open"] is False
    first, second, third = (one["id"] for one in answer["items"])
    assert await office.pages("registrations.list", limit=2) == [[first, second], [third]]
    assert await office.refused("registrations.accept", id=first) == "400 bad_request"
    accepted = await office.do("registrations.accept", id=second)
    assert (await office.do("users.show", user=accepted["user"]))["must_change_password"] is False
    await office.do("registrations.refuse", id=third)
    assert await office.pages("registrations.list") == [[first]]
    decided = (await office.do("registrations.list", state="accepted"))["items"][0]
    assert (decided["id"], decided["by"]) == (second, "operator:ana")
    for id in (second, third, 2**40):
        assert await office.refused("registrations.accept", id=id) == "400 bad_request"
        assert await office.refused("registrations.refuse", id=id) == "400 bad_request"
    sections = {Messenger: Messenger(registration="open")}
    office.company.site = structs.replace(office.company.site, sections=sections)
    assert (await office.do("registrations.list"))["is_open"] is True


async def test_the_history(office: Office) -> None:
    """The changes come with before, after, by and when, newest first: all, those of a user with its contacts and
    devices, or those of a room; in pages that leave none out."""
    ann, bob = await office.company.users("ann", "bob")
    room = await office.company.room(members=[ann], name="Lunch")
    await office.company.send(ann, "profile", name="Ann")
    await office.company.send(ann, "contact", user=bob, muted=True)
    await office.company.send(ann, "device_name", name="phone")
    await office.do("users.disable", user=bob)
    every = await office.do("changes.list")
    shown = [(one["what"], one["of_name"], one["owner_name"], one["by"], one["by_name"]) for one in every["items"]]
    me = f"user:{ann}"
    assert shown == [
        ("user", "bob", None, "operator:ana", None),
        ("device", None, "ann", me, "ann"),
        ("contact", "bob", "ann", me, "ann"),
        ("user", "ann", None, me, "ann"),
        ("room", "Lunch", None, "server", None),
        ("user", "bob", None, "test", None),
        ("user", "ann", None, "test", None),
    ]
    assert (every["items"][0]["before"], every["items"][0]["after"]) == ({"disabled": False}, {"disabled": True})
    assert every["items"][-1]["before"] is None
    ids = [one["id"] for one in every["items"]]
    assert await office.pages("changes.list", user=ann, limit=2) == [[ids[1], ids[2]], [ids[3], ids[6]]]
    assert await office.pages("changes.list", room=room) == [[ids[4]]]
    assert await office.pages("changes.list", order="oldest", limit=3) == [ids[6:3:-1], ids[3:0:-1], ids[:1]]
    assert await office.refused("changes.list", user=ann, room=room) == "400 bad_parameter"


async def test_a_page_of_long_changes(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends behind so many bytes, and has one change at least."""
    monkeypatch.setattr(journal_listed_changes, "MAX_CHANGES_BYTES", 100)
    (ann,) = await office.company.users("ann")
    for number in range(45):
        await office.company.send(ann, "profile", icon=str(number) * 50)
    pages = await office.pages("changes.list", limit=1_000)
    assert len(functools.reduce(operator.iadd, pages, [])) == 46
    assert max(map(len, pages)) <= 3
