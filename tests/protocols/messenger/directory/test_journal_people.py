"""Users, contacts and devices in both databases: who may change what, who is told, and what the history keeps."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.protocols.messenger.directory import journal_people
from app.protocols.messenger.journal_tables import chat_users
from tests.protocols.messenger.directory.directory_ground import Company

KEYS = {
    "salt": b64encode(b"0123456789abcdef").decode(),
    "iterations": 4096,
    "stored_key": b64encode(b"s" * 32).decode(),
    "server_key": b64encode(b"k" * 32).decode(),
}


async def test_a_profile(company: Company) -> None:
    """A user changes its own name, sign and icon: all are told, and the history says what has changed."""
    ann, bob = await company.users("ann", "bob")
    await company.send(ann, "profile", name="Ann", sign="on holiday")
    to, event, data = company.told.events[-1]
    assert (to, event) == (None, "directory")
    assert (data["users"][0]["id"], data["users"][0]["name"], data["users"][0]["sign"]) == (ann, "Ann", "on holiday")
    change = (await company.changes())[-1]
    assert (change["what"], change["of_id"], change["by"]) == ("user", ann, f"user:{ann}")
    assert msgspec.json.decode(change["before"]) == {"name": "ann", "sign": ""}
    assert msgspec.json.decode(change["after"]) == {"name": "Ann", "sign": "on holiday"}
    assert await company.code(bob, "profile", name="") == "bad_request"
    assert await company.code(bob, "profile", admin=True) == "unknown_field"
    assert await company.code(bob, "profile", icon="x" * 20_000) == "too_long"


async def test_admins_make_and_change_users(company: Company) -> None:
    """An admin gives a user login, name and keys; a login is one user's; keys that are none are refused."""
    (root,) = await company.users("root", is_admin=True)
    ann = (await company.send(root, "user_create", login="Ann", name="Ann A.", password=KEYS))["id"]
    async with company.sql.reading(company.site) as (sql, _):
        row = (await sql.execute(select(chat_users).where(chat_users.c.id == ann))).one()
    assert (row.login, row.name, row.must_change, bytes(row.stored_key)) == ("Ann", "Ann A.", True, b"s" * 32)
    assert await company.code(root, "user_create", login="ANN") == "bad_request"
    assert await company.code(root, "user_create", login="") == "bad_request"
    assert (
        await company.code(root, "user_create", login="b", password={**KEYS, "salt": "no base64!!!"}) == "bad_request"
    )
    assert await company.code(root, "user_create", login="b", password={**KEYS, "iterations": 10}) == "bad_request"
    assert (
        await company.code(root, "user_create", login="b", password={**KEYS, "server_key": KEYS["salt"]})
        == "bad_request"
    )
    await company.send(root, "user_change", id=ann, login="anna", admin=True)
    assert company.told.events[-1][2]["users"][0]["login"] == "anna"
    assert (await company.caller(ann)).me.is_admin
    assert await company.code(root, "user_change", id=ann, login="ROOT") == "bad_request"
    assert await company.code(root, "user_change", id=ann, login="Anna") == "ok"
    assert await company.code(root, "user_change", id=2**40, name="x") == "unknown_user"


async def test_ends_of_sessions(company: Company) -> None:
    """Disabling and another password end a user's sessions; taking that back, and a name, do not."""
    (root,) = await company.users("root", is_admin=True)
    (ann,) = await company.users("ann")
    await company.send(root, "user_change", id=ann, name="A")
    assert await company.voided(ann) == 0
    await company.send(root, "user_change", id=ann, password=KEYS)
    changed = await company.voided(ann)
    await company.send(root, "user_disable", id=ann)
    disabled = await company.voided(ann)
    assert 0 < changed < disabled
    assert company.told.events[-1][2]["users"][0]["disabled"] is True
    await company.send(root, "user_disable", id=ann, disabled=False)
    assert await company.voided(ann) == disabled
    assert company.told.events[-1][2]["users"][0]["disabled"] is False


async def test_contacts(company: Company) -> None:
    """A contact is its owner's alone: nobody else hears of it, the blocked one least of all."""
    ann, bob = await company.users("ann", "bob")
    await company.send(ann, "contact", user=bob, name="Bobby")
    await company.send(ann, "contact", user=bob, blocked=True)
    expected: dict[str, Any] = {"user": bob, "name": "Bobby", "muted": False, "blocked": True}
    assert company.told.events[-1] == ({ann}, "directory", {"contacts": [expected]})
    count = len(company.told.events)
    await company.send(ann, "contact", user=bob, blocked=True)
    assert len(company.told.events) == count
    await company.send(ann, "contact", user=bob, name=None, muted=True, blocked=False)
    expected = {"user": bob, "name": None, "muted": True, "blocked": False}
    assert company.told.events[-1] == ({ann}, "directory", {"contacts": [expected]})
    change = (await company.changes())[-1]
    assert (change["what"], change["of_id"], change["owner_id"]) == ("contact", bob, ann)
    assert msgspec.json.decode(change["before"]) == {"name": "Bobby", "muted": False, "blocked": True}
    assert await company.code(ann, "contact", user=ann) == "unknown_user"
    assert await company.code(ann, "contact", user=2**40) == "unknown_user"


async def test_too_many_contacts(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has at most so many; those that it has may be changed."""
    monkeypatch.setattr(journal_people, "MAX_CONTACTS", 1)
    ann, bob, eve = await company.users("ann", "bob", "eve")
    assert await company.code(ann, "contact", user=bob) == "ok"
    assert await company.code(ann, "contact", user=eve) == "too_many"
    assert await company.code(ann, "contact", user=bob, muted=True) == "ok"


async def test_a_device_gets_a_name(company: Company) -> None:
    """The user's own devices are told, and the history keeps it."""
    (ann,) = await company.users("ann")
    await company.send(ann, "device_name", name="phone")
    to, _, data = company.told.events[-1]
    assert (to, data["devices"][0]["id"], data["devices"][0]["name"]) == ({ann}, "d", "phone")
    change = (await company.changes())[-1]
    assert (change["what"], change["owner_id"], msgspec.json.decode(change["after"])) == (
        "device",
        ann,
        {"name": "phone"},
    )


async def test_users_that_are_not_seen(database: str) -> None:
    """With `contact_list: rooms` users that share no room and no contact are unknown: they can be neither contacts nor
    members, and are told nothing."""
    company = await Company.open(database, "by rooms", "rooms")
    try:
        ann, bob, eve = await company.users("ann", "bob", "eve")
        (root,) = await company.users("root", is_admin=True)
        await company.room([ann, bob])
        assert await company.code(ann, "contact", user=eve) == "unknown_user"
        assert await company.code(ann, "room_create", name="r", members=[eve]) == "unknown_user"
        assert await company.code(ann, "contact", user=bob) == "ok"
        assert await company.code(root, "room_create", name="r", members=[eve, root]) == "ok"
        await company.send(ann, "profile", name="Ann")
        assert company.told.events[-1][0] == {ann, bob}
    finally:
        await company.close()
