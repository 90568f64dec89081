"""The events of the directory by role: each event of each kind of client is done, or refused with its code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocols.messenger.directory.directory_ground import Company

ROLES = ("stranger", "changing", "user", "member", "room admin", "admin", "blocked", "disabled")
#: By event: its data (`room`, `user` stand for ids), and the codes for the roles; "ok" where none is named.
EVENTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "profile": ({"name": "x"}, {}),
    "contact": ({"user": "user", "muted": True}, {}),
    "device_name": ({"name": "x"}, {}),
    "room_create": ({"name": "x", "members": ["user"]}, {}),
    "room_change": (
        {"id": "room", "name": "x"},
        {"user": "not_member", "blocked": "not_member", "member": "not_admin"},
    ),
    "room_leave": ({"id": "room"}, {"user": "not_member", "blocked": "not_member", "admin": "not_member"}),
    "room_archive": ({"id": "room"}, {"user": "not_member", "blocked": "not_member", "member": "not_admin"}),
    "user_create": ({"login": "new"}, dict.fromkeys(("user", "member", "room admin", "blocked"), "not_admin")),
    "user_change": (
        {"id": "user", "name": "x"},
        dict.fromkeys(("user", "member", "room admin", "blocked"), "not_admin"),
    ),
    "user_disable": ({"id": "user"}, dict.fromkeys(("user", "member", "room admin", "blocked"), "not_admin")),
}
#: The same for every event.
ALWAYS = {"stranger": "not_logged_in", "changing": "must_change_password", "disabled": "session_void"}


def test_every_event_is_in_the_table() -> None:
    """No event of the directory is missing."""
    from_handlers = set(Company(None, "x", "all").handlers)  # type: ignore[arg-type]
    assert set(EVENTS) == from_handlers


@pytest.mark.parametrize("role", ROLES)
async def test_roles(company: Company, role: str) -> None:
    """A refused event changes nothing; also one of a connection that has been a user's until now."""
    for event, (data, codes) in EVENTS.items():
        me, user, other = await company.users(*(f"{event} {name}" for name in ("me", "user", "other")))
        members = [me, other] if role in ("member", "room admin") else [other]
        room = await company.room(members, [me] if role == "room admin" else [other])
        await _become(company, role, me, user)
        caller = await company.caller(me)
        if role == "stranger":
            caller.user = None
        elif role == "disabled":
            # Its connection does not know it yet.
            await company.disable(me)
        ids = {"room": room, "user": user}
        sent = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in data.items()}
        sent = {name: [user] if value == ["user"] else value for name, value in sent.items()}
        count, expected = len(await company.changes()), ALWAYS.get(role) or codes.get(role, "ok")
        assert await company.code(caller, event, **sent) == expected, event
        assert (len(await company.changes()) > count) is (expected == "ok"), event


async def _become(company: Company, role: str, me: int, user: int) -> None:
    """Give a user its role."""
    if role == "admin":
        await company.room([me], kind="admins")
    elif role == "blocked":
        assert await company.code(user, "contact", user=me, blocked=True) == "ok"
    elif role == "changing":
        keys = {"salt": "MDEyMzQ1Njc4OWFiY2RlZg==", "iterations": 4096}
        key = "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="
        (root,) = await company.users(f"root {me}", is_admin=True)
        password = {**keys, "stored_key": key, "server_key": key}
        assert await company.code(root, "user_change", id=me, password=password) == "ok"
