"""The history of the directory, and the registrations, as operators list them."""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.directory.journal_viewers import parts_of
from app.protocols.messenger.journal_tables import chat_changes, chat_registrations, chat_rooms, chat_users
from app.protocols.messenger.operations.journal_pages import PagePlace

#: Changes are read in parts of so many, and a page ends behind so many bytes: each may hold thousands of members.
_PART = 20
MAX_CHANGES_BYTES = 1_000_000

_changes = chat_changes.c
_registrations = chat_registrations.c


async def list_changes(
    sql: AsyncConnection, site_id: int, of: tuple[str, int] | None, place: PagePlace
) -> tuple[list[Row[Any]], int | None]:
    """A page of the changes of everything, or of a `("user", id)` or a `("room", id)`; and the id at its end."""
    found: list[Row[Any]] = []
    bytes_left, behind = MAX_CHANGES_BYTES, place.behind
    while True:
        rows = await _part(sql, site_id, of, place, behind)
        for row in rows:
            if len(found) == place.limit or (bytes_left < 0 and found):
                return found, found[-1].id
            found.append(row)
            bytes_left -= len(row.before or "") + len(row.after)
        if len(rows) < _PART:
            return found, None
        behind = rows[-1].id


async def _part(
    sql: AsyncConnection, site_id: int, of: tuple[str, int] | None, place: PagePlace, behind: int | None
) -> list[Row[Any]]:
    """The next rows. Of a user each kind of change has an index of its own."""
    rows: list[Row[Any]] = []
    for condition in _conditions(of):
        statement = select(chat_changes).where(_changes.site_id == site_id, *condition)
        rows += await sql.execute(place.bound(statement, _changes.id, _PART, behind))
    return sorted(rows, key=lambda row: row.id, reverse=place.is_newest_first)[:_PART]


def _conditions(of: tuple[str, int] | None) -> Iterable[tuple[ColumnElement[bool], ...]]:
    if of is None:
        yield ()
        return
    what, id = of
    yield (_changes.what == what, _changes.of_id == id)
    if what == "user":
        yield (_changes.owner_id == id,)


async def names_in(sql: AsyncConnection, site_id: int, rows: Iterable[Row[Any]]) -> dict[tuple[str, int], str]:
    """The names of the users and rooms that changes are about, by kind and id."""
    users: set[int] = set()
    rooms: set[int] = set()
    for row in rows:
        users |= {row.owner_id} - {None}
        (users if row.what in ("user", "contact") else rooms if row.what == "room" else set()).add(row.of_id)
        kind, _, id = row.by.partition(":")
        users |= {int(id)} if kind == "user" and id.isdigit() else set()
    return await _user_names(sql, site_id, users) | await _room_names(sql, site_id, rooms)


async def _user_names(sql: AsyncConnection, site_id: int, ids: set[int]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    table = chat_users.c
    for part in parts_of(sorted(ids)):
        statement = select(table.id, table.login, table.external).where(table.site_id == site_id, table.id.in_(part))
        found |= {("user", row.id): row.login or row.external or "" for row in await sql.execute(statement)}
    return found


async def _room_names(sql: AsyncConnection, site_id: int, ids: set[int]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    table = chat_rooms.c
    for part in parts_of(sorted(ids)):
        statement = select(table.id, table.name).where(table.site_id == site_id, table.id.in_(part))
        found |= {("room", row.id): row.name for row in await sql.execute(statement)}
    return found


def change_values(text: str | None) -> dict[str, Any] | None:
    """The values before or behind a change."""
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


async def list_registrations(
    sql: AsyncConnection, site_id: int, state: str, place: PagePlace
) -> tuple[list[Row[Any]], int | None]:
    """A page of the registrations in a state, and the id at its end."""
    names = ("id", "login", "login_key", "name", "address", "at", "state", "by", "decided_at")
    statement = select(*(_registrations[name] for name in names))
    statement = statement.where(_registrations.site_id == site_id, _registrations.state == state)
    rows = list(await sql.execute(place.bound(statement, _registrations.id, place.limit + 1, place.behind)))
    page = place.cut([row.id for row in rows])
    return rows[: place.limit], page.last


async def taken_logins(sql: AsyncConnection, site_id: int, keys: Iterable[str]) -> set[str]:
    """The logins among these, as they are compared, that users have."""
    found: set[str] = set()
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), 500):
        mine = (chat_users.c.site_id == site_id, chat_users.c.login_key.in_(ordered[start : start + 500]))
        found |= set((await sql.execute(select(chat_users.c.login_key).where(*mine))).scalars())
    return found
