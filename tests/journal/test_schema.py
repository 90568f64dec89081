"""The migrations, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import JOURNAL_TABLES
from app.journal import schema
from app.journal.database import open_database
from app.journal.schema import SchemaTooNew, newest_version, upgrade_schema
from app.journal.tables import metadata
from app.protocols.messenger.journal_tables import chat_sites, chat_users
from app.protocols.messenger.push0k.journal_map import chat_imports
from tests.support.postgres import Postgres

assert chat_sites.metadata is chat_imports.metadata is metadata, "the messenger's tables are among those of the journal"


def differences(connection: Connection) -> list[object]:
    """The differences of a database from the tables. The index of words has a form for each database."""
    options = {"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("chat_search")}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_migrations_make_the_tables(engine: AsyncEngine) -> None:
    """The newest version has every table, column and index of `tables.py`, and no other."""
    async with engine.connect() as sql:
        assert await sql.run_sync(differences) == []


async def test_an_upgrade_is_repeatable(engine: AsyncEngine) -> None:
    """A database of the newest version stays as it is."""
    assert await upgrade_schema(engine) == (newest_version(), newest_version())


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite'}"
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.new_database()


def downgrade(connection: Connection, version: str) -> None:
    """Bring a database back to a version."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.downgrade(config, version)


async def test_users_of_before_are_numbered(engine: AsyncEngine) -> None:
    """Version 0015 numbers the users of each site that have a password, in the order of their ids."""
    keys = {"salt": b"s", "stored_key": b"k", "server_key": b"v", "iterations": 4096}
    rows = [(1, True), (2, True), (1, False), (1, True), (2, True)]
    async with engine.begin() as sql:
        for number, (site, is_keyed) in enumerate(rows):
            values = {"site_id": site, "login": f"u{number}", "created_at": 1, **(keys if is_keyed else {})}
            await sql.execute(insert(chat_users).values(**values))
        await sql.run_sync(downgrade, "0014")
    await upgrade_schema(engine)
    async with engine.connect() as sql:
        found = await sql.execute(select(chat_users.c.site_id, chat_users.c.keyed).order_by(chat_users.c.id))
        assert list(map(tuple, found)) == [(1, 1), (2, 1), (1, None), (1, 2), (2, 2)]


async def test_upgrades_at_once(empty_database: str) -> None:
    """Several processes that start together make the tables once."""
    engines = [open_database(empty_database, is_writer=True) for _ in range(4)]
    try:
        done = await asyncio.gather(*map(upgrade_schema, engines))
    finally:
        for engine in engines:
            await engine.dispose()
    assert sorted(before is None for before, _ in done) == [False, False, False, True]


async def test_tables_of_a_later_version(engine: AsyncEngine) -> None:
    """A writer of an earlier version leaves a later version's tables alone."""
    async with engine.begin() as sql:
        await sql.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew):
        await upgrade_schema(engine)


def test_tables_with_a_retention() -> None:
    """`journal.retention` knows each table that grows with time."""
    of_names = {
        "sites",
        "devices",
        "positions",
        "message_rooms",
        "operators",
        "api_tokens",
        "site_settings",
        "load_runs",
    }
    of_messengers = {name for name in metadata.tables if name.startswith("chat_")}
    assert set(JOURNAL_TABLES) == metadata.tables.keys() - of_names - of_messengers
