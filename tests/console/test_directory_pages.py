"""The pages of the users and rooms of a messenger, rendered from its tables, and their forms."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Struct
from sqlalchemy import insert

from app.config.settings import Site
from app.protocols.messenger.bounds import LEAST_ITERATIONS, USER_PREFIX
from app.protocols.messenger.journal_tables import chat_registrations
from app.protocols.messenger.settings import Messenger
from tests.console.visitor import ConsoleNode, bearer
from tests.protocols.messenger.operations.office import Office
from tests.support.valkey import Valkey

SCRIPT = "<script>alert(1)</script>"
_TEAM = "/sites/team"


@pytest.fixture
async def office(database: str) -> AsyncIterator[Office]:
    """A messenger in the console's database."""
    office = await Office.start(database, "team")
    yield office
    await office.close()


@pytest.fixture
async def node(valkey: Valkey, database: str, office: Office) -> AsyncIterator[ConsoleNode]:
    """A node with the site of the messenger beside two others."""
    node = await ConsoleNode.start(valkey, database, list(office.operations.values()))
    sections: dict[type[Struct], Struct] = {Messenger: Messenger(iterations=LEAST_ITERATIONS)}
    node.sites["team"] = Site(name="team", api_key="k", user_room_prefix=USER_PREFIX, sections=sections)
    yield node
    await node.close()


async def fill(office: Office) -> dict[str, int]:
    """A user and a room with a script in every text, and a registration; ids by kind."""
    (user,) = await office.company.users(SCRIPT)
    await office.do("users.change", user=user, name=SCRIPT, sign=SCRIPT, icon=SCRIPT, admin=True)
    room = await office.do(
        "rooms.add",
        name=SCRIPT,
        description=SCRIPT,
        icon=SCRIPT,
        object_type=SCRIPT,
        object_id=SCRIPT,
        admins=[user],
    )
    caller = await office.company.caller(user, SCRIPT)
    await office.company.send(caller, "device_name", name=SCRIPT)
    row: dict[str, Any] = dict.fromkeys(("login", "login_key", "name", "address"), SCRIPT)
    keys: dict[str, Any] = dict.fromkeys(("salt", "stored_key", "server_key"), b"k")
    async with office.company.sql.writing(office.company.site) as (sql, site_id):
        statement = insert(chat_registrations).values(
            **row, **keys, site_id=site_id, iterations=1, at=0, state="waiting"
        )
        await sql.execute(statement)
    return {"user": user, "room": room["id"]}


async def test_texts_are_no_markup(node: ConsoleNode, office: Office) -> None:
    """Names, signs, devices and registrations are strangers' texts: every page shows them as text, to operators with
    all forms and to viewers with none."""
    ids = await fill(office)
    paths = (
        *("/users", "/rooms", "/registrations", "/changes", "/users?text=%3Cscript&online=false"),
        *(f"/users/{ids['user']}", f"/rooms/{ids['room']}", f"/changes?user={ids['user']}"),
    )
    viewer = await node.visitor("vera", "viewer", ("team",))
    operator = await node.visitor("otto", "operator", ("team",))
    for path in paths:
        for visitor, has_forms in ((viewer, False), (operator, "changes" not in path)):
            page = await visitor.get(_TEAM + path)
            assert page.status_code == 200, path
            assert "<script>alert" not in page.text, path
            assert "&lt;script&gt;alert" in page.text, path
            assert ("/console/do/" in page.text) is has_forms, (path, visitor.name)


async def test_empty_pages(node: ConsoleNode) -> None:
    """A page without rows says what to do."""
    operator = await node.visitor("otto", "operator", ("team",))
    for path, text in (
        ("/users", "add the first user below"),
        ("/rooms", "add one below"),
        ("/registrations", "registration: open"),
        ("/changes", "Nothing has changed yet"),
        ("/users?text=x", "There is no such user."),
    ):
        assert text in (await operator.get(_TEAM + path)).text, path
    viewer = await node.visitor("vera", "viewer", ("team",))
    assert "Somebody with the role operator" in (await viewer.get(f"{_TEAM}/users")).text


async def test_the_menu(node: ConsoleNode) -> None:
    """The pages stand in the menu of a site with a messenger, and of no other."""
    visitor = await node.visitor("ana")
    page = (await visitor.get(f"{_TEAM}/users")).text
    assert all(f'href="/console{_TEAM}/{name}"' in page for name in ("users", "rooms"))
    # The menu of a page about no site leads to the first one.
    page = (await visitor.get("/log")).text
    assert "Site <strong>news</strong>" in page
    assert not any(f"/sites/news/{name}" in page for name in ("users", "rooms"))
    assert (await visitor.get("/sites/shop/users")).status_code == 404


async def test_a_first_password(node: ConsoleNode, office: Office) -> None:
    """A password that is made is shown once, and the operator's own is asked for unless it was given just now; the
    audit has no password."""
    visitor = await node.visitor("otto", "operator", ("team",))
    added = await visitor.do("users.add", site="team", login="ann", password="given as text")
    assert added.status_code == 200
    assert "given as text" not in added.text
    user = (await office.do("users.list"))["items"][0]["id"]
    made = await visitor.do("users.set_password", site="team", user=user)
    (password,) = re.findall(r"<dt>password</dt>\s*<dd><code>([\w-]{20,})</code>", made.text)
    assert office.operations["users.set_password"].hurts
    headers = bearer(await node.token("otto"))
    answer = await node.client().post(
        f"/api/v1/sites/team/users/{user}/password", json={"password": "another text"}, headers=headers
    )
    assert answer.json() == {"ok": True, "login": "ann"}
    await node.visitor("ana")
    rows = (await node.client().get("/api/v1/audit", headers=bearer(await node.token("ana")))).json()["items"]
    done = [(row["action"], row["site"], row["target"]) for row in rows if row["action"].startswith("users.")]
    assert done == [("users.set_password", "team", str(user))] * 2 + [("users.add", "team", "")]
    for secret in (password, "given as text", "another text"):
        assert secret not in str(rows)


async def test_fields_that_are_emptied(node: ConsoleNode, office: Office) -> None:
    """A field that somebody has emptied in a form empties the value; one that a form does not have changes nothing."""
    user = (await office.do("users.add", login="ann", name="Ann", sign="here", icon="A"))["id"]
    room = (await office.do("rooms.add", name="Lunch", description="d", object_type="doc", object_id="7"))["id"]
    visitor = await node.visitor("otto", "operator", ("team",))
    await visitor.do("users.change", site="team", user=user, name="", sign="", admin="")
    shown = await office.do("users.show", user=user)
    assert (shown["name"], shown["sign"], shown["icon"]) == ("Ann", "", "A")
    await visitor.do("rooms.change", site="team", room=room, name="", object_type="", object_id="")
    shown = await office.do("rooms.show", room=room)
    assert (shown["name"], shown["description"], shown["object"]) == ("Lunch", "d", None)


async def test_members_in_pages(node: ConsoleNode, office: Office) -> None:
    """The pages of a long list of members beside the history: each has its own place."""
    users = await office.company.users(*(f"user{number}" for number in range(5)))
    room = await office.company.room(members=users, name="Lunch")
    visitor = await node.visitor("otto", "operator", ("team",))
    first = await visitor.get(f"{_TEAM}/rooms/{room}?limit=3")
    assert shown_members(first.text) == users[:3]
    (rest,) = re.findall(r'href="([^"]*cursor=[^"]*)" rel="next"', first.text)
    second = await visitor.client.get(rest.replace("&amp;", "&"))
    assert shown_members(second.text) == users[3:]
    for page in (first.text, second.text):
        assert len(re.findall(r'id="change-\d+"', page)) == 1


def shown_members(page: str) -> list[int]:
    """The ids of the members that a page shows."""
    return list(map(int, re.findall(r'id="member-(\d+)"', page)))
