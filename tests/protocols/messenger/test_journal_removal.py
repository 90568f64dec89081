"""The removal of a site's rows: in steps, all of them, and none of another site."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text

from app.config.settings import Site
from app.journal.tables import metadata
from app.protocols.messenger import journal_removal
from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_removal import forget_rows
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_clock, chat_files, chat_networks, chat_sites, chat_users
from app.protocols.messenger.push0k.journal_map import note_ids
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground

#: The tables of which a site keeps its row, and that of files, which has a removal of its own.
_KEPT = (chat_clock, chat_sites, chat_files)


async def rows_of(sql: ChatSql, site: Site) -> dict[str, int]:
    """The rows of a site by table, where there are some."""
    tables = [table for table in metadata.tables.values() if table.name.startswith("chat_") and table not in _KEPT]
    async with sql.reading(site) as (connection, site_id):
        found = {}
        for table in tables:
            if table is not chat_networks:
                count = select(func.count()).select_from(table).where(table.c.site_id == site_id)
                found[table.name] = int((await connection.execute(count)).scalar_one())
    return {name: count for name, count in found.items() if count}


async def fill(ground: Ground) -> None:
    """Give a site users, a room, messages, changes and receipts; one of the users was imported."""
    ann, bob, eve = await ground.users(3)
    room = await ground.room([ann, bob, eve], admins=[ann])
    await ground.block(eve, bob)
    for number in range(7):
        sent = await ground.send(ann, ChatTarget(room=room), f"word {number}")
        await ground.read(bob, [sent.id])
    await ground.edit(ann, sent.id, "another word")
    await ground.leave(room, eve)
    async with ground.sql.writing(ground.site) as (connection, site_id):
        await note_ids(connection, site_id, "user", {"ann there": ann})


async def test_rows_are_removed_in_steps(database_url: str, sql: ChatSql, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step deletes at most so many rows; behind the last one nothing is left of the site, in the index of words
    neither, and everything of the other one."""
    monkeypatch.setattr(journal_removal, "ROWS_A_STEP", 5)
    gone, other = Ground(sql, "gone"), Ground(sql, "other")
    for ground in (gone, other):
        await fill(ground)
    before = await rows_of(sql, other.site)
    assert before.keys() >= {
        "chat_imports",
        "chat_messages",
        "chat_members",
        "chat_receipts",
        "chat_users",
        "chat_devices",
    }
    assert await rows_of(sql, gone.site) == before
    steps, left = 0, sum(before.values())
    is_over = False
    while not is_over:
        async with sql.writing(gone.site) as (connection, site_id):
            is_over = await forget_rows(connection, site_id)
        steps += 1
        rows = sum((await rows_of(sql, gone.site)).values())
        assert left - rows <= 5
        left = rows
    assert (await rows_of(sql, gone.site), await rows_of(sql, other.site)) == ({}, before)
    assert steps > sum(before.values()) / 5
    async with sql.reading(other.site) as (connection, _):
        words = (await connection.execute(text("SELECT count(*) FROM chat_search"))).scalar_one()
    assert words == before["chat_messages"]
    assert [one["text"] for one in await other.search(1, "word")] == []


def test_no_table_is_left_out() -> None:
    """Every table of the messenger is among those whose rows go, or keeps its row on purpose."""
    removed = {*journal_removal._TABLES, chat_messages, chat_users, chat_networks, *_KEPT}
    assert removed == {table for table in metadata.tables.values() if table.name.startswith("chat_")}


async def test_a_site_that_never_had_a_messenger(sql: ChatSql, site: Site) -> None:
    """Of such a site nothing is made by the question for it."""
    assert await sql.has_met("never") is False
    await sql.secret_of(site)
    assert await sql.has_met(site.name) is True
    assert await sql.has_met("never") is False
