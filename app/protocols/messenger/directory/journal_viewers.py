"""The users that a user sees: all, or those that share a room or a contact with it; and who has blocked whom."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select, true, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.journal_tables import chat_contacts, chat_members, chat_users

#: The parameters of one statement are bounded in both databases.
PART = 500


def neighbours(site_id: int, me: int) -> Select[Any]:
    """The users that share a room or a contact with the user, as a question for their ids."""
    mine, theirs = chat_members.alias("mine"), chat_members.alias("theirs")
    together = select(theirs.c.user_id.label("id")).select_from(
        mine.join(theirs, (theirs.c.site_id == mine.c.site_id) & (theirs.c.room_id == mine.c.room_id))
    )
    together = together.where(
        mine.c.site_id == site_id, mine.c.user_id == me, mine.c.until.is_(None), theirs.c.until.is_(None)
    )
    contacts = chat_contacts.c
    listed = select(contacts.other_id.label("id")).where(contacts.site_id == site_id, contacts.user_id == me)
    listing = select(contacts.user_id.label("id")).where(contacts.site_id == site_id, contacts.other_id == me)
    found = union(together, listed, listing).subquery()
    return select(found.c.id)


def seen_by(site_id: int, me: int, *, by_rooms: bool) -> ColumnElement[bool]:
    """Whether the user sees a row of `chat_users`."""
    if not by_rooms:
        return true()
    return or_(chat_users.c.id == me, chat_users.c.id.in_(neighbours(site_id, me)))


async def viewers_of(sql: AsyncConnection, site_id: int, user: int, *, by_rooms: bool) -> frozenset[int] | None:
    """The users that see the user; None: all."""
    if not by_rooms:
        return None
    return frozenset((await sql.execute(neighbours(site_id, user))).scalars()) | {user}


async def seen_among(
    sql: AsyncConnection, site_id: int, me: int | None, others: Iterable[int], *, by_rooms: bool
) -> set[int]:
    """The ids among these that are users whom the user sees; None sees all."""
    found: set[int] = set()
    for part in parts_of(sorted(others)):
        statement = select(chat_users.c.id).where(chat_users.c.site_id == site_id, chat_users.c.id.in_(part))
        if me is not None:
            statement = statement.where(seen_by(site_id, me, by_rooms=by_rooms))
        found |= set((await sql.execute(statement)).scalars())
    return found


async def blocked_pairs(sql: AsyncConnection, site_id: int, users: Collection[int]) -> dict[int, set[int]]:
    """The users that these have blocked, by the one who has."""
    found: dict[int, set[int]] = {}
    contacts = chat_contacts.c
    for part in parts_of(sorted(users)):
        statement = select(contacts.user_id, contacts.other_id).where(
            contacts.site_id == site_id, contacts.user_id.in_(part), contacts.is_blocked
        )
        for row in await sql.execute(statement):
            found.setdefault(row.user_id, set()).add(row.other_id)
    return found


def parts_of(ids: list[int]) -> Iterable[list[int]]:
    """The ids in lists that one statement takes."""
    return (ids[start : start + PART] for start in range(0, len(ids), PART))
