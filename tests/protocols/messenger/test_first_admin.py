"""The admin that the settings of a site name, in both databases."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs
from sqlalchemy import Row, select
from structlog.testing import CapturingLogger

from app.config.settings import Site
from app.protocols.messenger import first_admin
from app.protocols.messenger.directory.directory import ChatDirectory
from app.protocols.messenger.first_admin import make_admin
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_changes, chat_users
from app.protocols.messenger.operations.made_passwords import FirstPasswords
from app.protocols.messenger.settings import Messenger
from tests.protocols.messenger.directory.directory_ground import Told
from tests.support.chat import ITERATIONS


def naming(site: Site, login: str | None, password: str | None) -> Site:
    """The site with these settings."""
    settings = Messenger(iterations=ITERATIONS, admin_login=login, admin_password=password)
    return structs.replace(site, sections={Messenger: settings})


async def start(sql: ChatSql, site: Site) -> None:
    """Do what a process does at its start."""
    await make_admin(ChatDirectory(sql, Told(), lambda site: None), FirstPasswords(), site)


async def users(sql: ChatSql, site: Site) -> list[Row[tuple[str, bool, bool, bytes]]]:
    """Login, flag, whether the password is to change, and key of each user."""
    columns = [chat_users.c[name] for name in ("login", "is_admin", "must_change", "stored_key")]
    async with sql.reading(site) as (connection, site_id):
        return list(await connection.execute(select(*columns).where(chat_users.c.site_id == site_id)))


async def test_processes_that_start_together(database_url: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes make one admin, who may keep the password; every later start changes nothing, also with
    another password in the settings."""
    log = CapturingLogger()
    monkeypatch.setattr(first_admin, "_log", log)
    named = naming(site, "Ann", "a long password")
    processes = [ChatSql.open(database_url) for _ in range(3)]
    try:
        await processes[0].make_tables()
        await asyncio.gather(*(start(sql, named) for sql in processes))
        assert [call.args for call in log.calls] == [("messenger admin made",)]
        (made,) = await users(processes[0], site)
        assert (made.login, made.is_admin, made.must_change) == ("Ann", True, False)
        await start(processes[1], naming(site, "ANN", "another password"))
        assert await users(processes[0], site) == [made]
        async with processes[0].reading(site) as (connection, _):
            assert list((await connection.execute(select(chat_changes.c.by))).scalars()) == ["server"]
    finally:
        for sql in processes:
            await sql.close()


async def test_no_settings_and_wrong_ones(sql: ChatSql, site: Site) -> None:
    """Without the settings nobody is made; a password that nobody can type is logged, and ends nothing."""
    await start(sql, site)
    await start(sql, naming(site, "ann", "\x01"))
    assert await users(sql, site) == []


def test_no_secret_is_shown(site: Site) -> None:
    """The password stands in no repr."""
    assert "secret" not in repr(naming(site, "ann", "secret").sections)
