"""Fixtures of the messenger's tests: its tables in both databases, each test with an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from app.config.settings import Site
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger
from tests.demo.conftest import DemoServer
from tests.support.browser import Browser, Page
from tests.support.chat import ITERATIONS
from tests.support.postgres import Postgres
from tests.support.tables import sqlite_with_tables

OpenChat = Callable[..., Page]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the tables and no row, of each kind."""
    if request.param == "sqlite":
        return sqlite_with_tables(tmp_path)
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.database_with_tables()


@pytest.fixture(autouse=True)
def patient_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of a database comes too late on a busy machine."""
    monkeypatch.setattr("app.protocols.messenger.journal_store.ANSWER_SECONDS", 60.0)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[ChatSql]:
    """The messenger's tables, empty."""
    sql = ChatSql.open(database_url)
    yield sql
    await sql.close()


@pytest.fixture
def site() -> Site:
    """A site with a messenger."""
    sections: dict[type[Struct], Struct] = {Messenger: Messenger(iterations=ITERATIONS)}
    return Site(name="team", api_key="k", user_room_prefix=USER_PREFIX, sections=sections)


@pytest.fixture(scope="module")
def chat_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo with a database. Tests share its users, so that each looks for words of its own."""
    server = DemoServer(DATABASE_URL=f"sqlite:///{tmp_path_factory.mktemp('chat') / 'journal.sqlite'}")
    yield server
    server.end()


@pytest.fixture
def open_chat(chat_demo: DemoServer, browser: Browser) -> Iterator[OpenChat]:
    """Opens the page, each time in a profile of its own."""
    pages: list[Page] = []

    def open_chat(**options: Any) -> Page:
        pages.append(browser.open(f"{chat_demo.url}/demo/messenger", **options))
        return pages[-1]

    yield open_chat
    for page in pages:
        page.close()
