"""Operators and tokens in both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.console import sql_operators
from app.console.operators import MAX_TOKENS
from app.console.sql_operators import SqlOperators
from app.digests import digest
from app.journal.database import JournalUnavailable, open_database
from app.journal.tables import audit, operators, sites
from app.protocols.operations import Role


@pytest.fixture
def kept(engine: AsyncEngine) -> SqlOperators:
    """Operators, of whom there are none yet."""
    return SqlOperators(engine)


async def test_operators(kept: SqlOperators) -> None:
    """An operator is found by name and id, changed, listed by name and removed; its name is taken once."""
    assert await kept.add("ben", "hash", Role.VIEWER, ["shop"])
    assert await kept.add("ana", "hash", Role.ADMIN, None)
    assert not await kept.add("ana", "other", Role.VIEWER, None)
    found = await kept.find("ben")
    assert found is not None
    assert (found.role, found.sites, found.version, found.is_disabled) == (Role.VIEWER, ("shop",), 0, False)
    assert await kept.find_id(found.id) == found
    assert await kept.change("ben", ends_sessions=True, role=Role.OPERATOR, sites=None, is_disabled=True)
    changed = await kept.find("ben")
    assert changed is not None
    assert (changed.role, changed.sites, changed.version, changed.is_disabled) == (Role.OPERATOR, None, 1, True)
    assert not await kept.change("eve", ends_sessions=True)
    assert [one.name for one in await kept.list_operators()] == ["ana", "ben"]
    assert await kept.remove("ben")
    assert (await kept.remove("ben"), await kept.find("ben")) == (False, None)


async def test_ids_do_not_come_again(kept: SqlOperators) -> None:
    """A later operator never gets the id of a removed one, whose sessions may still be in Redis."""
    await kept.add("ben", "hash", Role.VIEWER, None)
    first = await kept.find("ben")
    await kept.remove("ben")
    await kept.add("ben", "hash", Role.VIEWER, None)
    second = await kept.find("ben")
    assert first is not None
    assert second is not None
    assert second.id > first.id


async def test_tokens(kept: SqlOperators) -> None:
    """A token leads to its operator until it is removed; another operator cannot remove it."""
    for name in ("ana", "ben"):
        await kept.add(name, "hash", Role.ADMIN, None)
    ana, ben = await kept.find("ana"), await kept.find("ben")
    assert ana is not None
    assert ben is not None
    assert await kept.add_token(ana.id, "first", digest("recado_1"))
    assert await kept.find_token(digest("recado_1")) == ana
    assert await kept.find_token(digest("recado_2")) is None
    (token,) = await kept.list_tokens(ana.id)
    assert token.used_at is not None
    assert not await kept.remove_token(ben.id, token.id)
    assert await kept.remove_token(ana.id, token.id)
    assert await kept.find_token(digest("recado_1")) is None


async def test_tokens_go_with_their_operator(kept: SqlOperators) -> None:
    """The tokens of a removed operator lead nowhere."""
    await kept.add("ana", "hash", Role.ADMIN, None)
    ana = await kept.find("ana")
    assert ana is not None
    await kept.add_token(ana.id, "first", digest("recado_1"))
    await kept.remove("ana")
    assert await kept.find_token(digest("recado_1")) is None


async def test_bounds(kept: SqlOperators, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bounded number of tokens of an operator, and of operators."""
    await kept.add("ana", "hash", Role.ADMIN, None)
    added = [await kept.add_token(1, "t", digest(str(number))) for number in range(MAX_TOKENS + 1)]
    assert added == [True] * MAX_TOKENS + [False]
    monkeypatch.setattr(sql_operators, "MAX_OPERATORS", 1)
    assert not await kept.add("ben", "hash", Role.ADMIN, None)


async def test_the_last_use(kept: SqlOperators, engine: AsyncEngine) -> None:
    """The last use is noted, and not more than once a minute."""
    await kept.add("ana", "hash", Role.ADMIN, None)
    times = []
    for before_ms in (0, 0, 60_001):
        async with engine.begin() as sql:
            await sql.execute(update(operators).values(used_at=operators.c.used_at - before_ms))
        await kept.note_use(1)
        found = await kept.find("ana")
        assert found is not None
        times.append(found.used_at or 0)
    assert times[0] == times[1] <= times[2]
    assert times[0] > 0


async def test_writers_at_once(kept: SqlOperators) -> None:
    """Several adds of a name at once make one operator."""
    added = await asyncio.gather(*(kept.add("ana", "hash", Role.ADMIN, None) for _ in range(5)))
    assert sum(added) == 1


async def test_audit(kept: SqlOperators, engine: AsyncEngine) -> None:
    """A row names the site if the journal knows it, and its detail has a bound."""
    async with engine.begin() as sql:
        await sql.execute(insert(sites).values(id=7, name="shop"))
    await kept.add_audit("ana", "things.drop", "shop", "5", "x" * 5000)
    await kept.add_audit("ana", "things.drop", "unknown", "5", "")
    await kept.add_audit("ana", "operators.add", None, "ben", "")
    async with engine.connect() as sql:
        statement = select(audit.c.site_id, func.length(audit.c.detail)).order_by(audit.c.id)
        assert [tuple(row) for row in await sql.execute(statement)] == [(7, 4000), (None, 0), (None, 0)]


async def test_without_tables(tmp_path: object) -> None:
    """Before the tables are made, and while SQL is away, the error says so in a type of its own."""
    engine = open_database(f"sqlite:///{tmp_path}/empty.sqlite")
    with pytest.raises(JournalUnavailable):
        await SqlOperators(engine).find("ana")
    await engine.dispose()
