"""The rows of files and transfers, in both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import insert, select, update

from app.config.settings import Site
from app.digests import digest
from app.errors import RequestRefused
from app.journal.tables import transfers
from app.protocols.messenger.files.journal_files import FileBook
from app.protocols.messenger.files.journal_sessions import JournalSessions
from app.protocols.messenger.files.ports import FilesUnavailable, FileUser
from app.protocols.messenger.files.records import FileRecord, Progress
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_apps, chat_devices, chat_files, chat_sessions, chat_users

SITE, OTHER = Site(name="shop", api_key="k"), Site(name="news", api_key="k")
FILE = FileRecord(
    id="ab" * 16, user_id=1, device="d", app="notes", name="a.txt", type="text/plain", metadata="name YQ==", store="",
    place="", size=10, received=0, parts=(), created_at=5, expires_at=100, finished_at=None, sent_at=None, upload_ms=0,
    is_resumed=False,
)  # fmt: skip
UPLOAD = {"at": 50, "user": "user_1", "device": "d", "app": "notes", "node": "n", "kind": "upload", "file": FILE.id}


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[ChatSql]:
    """The tables, empty, in each kind of database."""
    sql = ChatSql.open(database_url)
    yield sql
    await sql.close()


@pytest.fixture
def book(sql: ChatSql) -> FileBook:
    """The rows."""
    return FileBook(sql)


def progress(received: int, *, is_broken: bool = False, ms: int = 7) -> Progress:
    """More bytes of FILE."""
    return Progress((("1/ab/01", received),), received, ms, is_broken)


async def advanced(book: FileBook, file: FileRecord, received: int, **more: Any) -> bool:
    """Note more bytes of a file."""
    return await book.advance(SITE, file, progress(received, **more), 60, {**UPLOAD, "bytes": 10})


async def transfers_in(sql: ChatSql) -> list[Any]:
    """The rows of transfers."""
    async with sql.reading(SITE) as (connection, _):
        return list(await connection.execute(select(transfers).order_by(transfers.c.id)))


async def test_a_file(book: FileBook) -> None:
    """A file is found as it was added, with its place, at its site alone."""
    added = await book.add(SITE, FILE, 0)
    assert added.place.endswith(f"/{FILE.id}")
    assert await book.find(SITE, FILE.id) == added
    assert await book.find(OTHER, FILE.id) is None
    assert await book.find(SITE, "cd" * 16) is None


async def test_bytes_count_once(book: FileBook, sql: ChatSql) -> None:
    """Of many requests that bring the same bytes one counts; the last one leaves the only row of the upload."""
    file = await book.add(SITE, FILE, 0)
    assert sorted(await asyncio.gather(*(advanced(book, file, 4) for _ in range(5)))) == [False] * 4 + [True]
    found = await book.find(SITE, FILE.id)
    assert found == structs.replace(file, received=4, parts=(("1/ab/01", 4),), upload_ms=7)
    assert await transfers_in(sql) == []
    assert await advanced(book, found, 10, is_broken=True, ms=5)
    assert not await advanced(book, found, 10)
    whole = await book.find(SITE, FILE.id)
    assert whole is not None
    assert (whole.received, whole.finished_at, whole.expires_at, whole.is_resumed) == (10, 60, None, True)
    (row,) = await transfers_in(sql)
    assert (row.bytes, row.ms, row.is_resumed, row.kind, row.app) == (10, 12, True, "upload", "notes")


async def test_resumed(book: FileBook) -> None:
    """An upload whose client has asked for the offset is one that was resumed."""
    await book.add(SITE, FILE, 0)
    await book.note_resumed(SITE, FILE.id)
    found = await book.find(SITE, FILE.id)
    assert found is not None
    assert found.is_resumed


async def test_removal(book: FileBook, sql: ChatSql) -> None:
    """A file that is being removed is hidden and takes no bytes; its row goes last. A sent one stays."""
    file = await book.add(SITE, FILE, 0)
    assert await book.begin_removal(SITE, FILE.id, 70)
    assert not await book.begin_removal(SITE, FILE.id, 70)
    assert await book.find(SITE, FILE.id) is None
    assert not await advanced(book, file, 10)
    await book.forget(SITE, FILE.id)
    assert await book.hide_expired(SITE, 10_000) == []
    again = await book.add(SITE, FILE, 0)
    await advanced(book, again, 10)
    async with sql.writing(SITE) as (connection, _):
        await connection.execute(update(chat_files).values(sent_at=80))
    assert not await book.begin_removal(SITE, FILE.id, 70)
    await book.forget(SITE, FILE.id)
    found = await book.find(SITE, FILE.id)
    assert found is not None
    assert found.sent_at == 80


async def test_expiry(book: FileBook) -> None:
    """Unfinished files are hidden once their time has passed, and named again until their rows are gone."""
    old = await book.add(SITE, FILE, 0)
    await book.add(SITE, structs.replace(FILE, id="cd" * 16, expires_at=101), 0)
    await book.add(SITE, structs.replace(FILE, id="ef" * 16, expires_at=None, finished_at=1), 0)
    assert await book.hide_expired(SITE, 99) == []
    for _ in range(2):
        assert [file.id for file in await book.hide_expired(SITE, 100)] == [FILE.id]
    assert not await advanced(book, old, 10)
    assert await book.hide_expired(OTHER, 10_000) == []
    await book.forget(SITE, FILE.id)
    assert await book.hide_expired(SITE, 100) == []


async def test_quota(book: FileBook) -> None:
    """The bytes of a user's files count, at least 4,096 each; creations that come at once do not pass together."""
    files = [structs.replace(FILE, id=f"{number:032x}", size=6_000) for number in range(5)]
    outcomes = await asyncio.gather(*(book.add(SITE, file, 15_000) for file in files), return_exceptions=True)
    assert sum(isinstance(outcome, RequestRefused) for outcome in outcomes) == 3
    await book.add(SITE, structs.replace(FILE, user_id=2, id="cd" * 16, size=15_000), 15_000)


async def test_time_of_a_client(book: FileBook, sql: ChatSql) -> None:
    """The time of a client goes to its newest transfer of a file in this direction, of this device and the last day."""
    download = {**UPLOAD, "kind": "download", "bytes": 1, "ms": 1, "is_resumed": False}
    for at in (10, 20, 30):
        await book.add_transfer(SITE, download | {"at": at})
    asked = {**UPLOAD, "kind": "download", "at": 40}
    assert await book.add_client_ms(SITE, asked, 123)
    assert [row.client_ms for row in await transfers_in(sql)] == [None, None, 123]
    for wrong in ({"device": "e"}, {"user": "user_2"}, {"kind": "upload"}, {"file": "x"}, {"at": 200_000_000}):
        assert not await book.add_client_ms(SITE, asked | wrong, 1)
    assert not await book.add_client_ms(OTHER, asked, 1)


async def test_without_sql(tmp_path: Any) -> None:
    """While SQL is away every method says so."""
    sql = ChatSql.open(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    with pytest.raises(FilesUnavailable):
        await FileBook(sql).find(SITE, FILE.id)
    await sql.close()


async def test_sessions(sql: ChatSql) -> None:
    """A session is that of its user and device until it ends, or the user is disabled or is to set a password."""
    far = 1 << 52
    async with sql.writing(SITE) as (connection, site_id):
        user = {"id": 7, "site_id": site_id, "login": "a", "login_key": "a", "created_at": 1}
        await connection.execute(insert(chat_users).values(**user))
        app = {"id": 3, "site_id": site_id, "name": "notes", "reference": "", "version": "", "created_at": 1}
        await connection.execute(insert(chat_apps).values(**app))
        device = {"id": 5, "site_id": site_id, "user_id": 7, "device": "phone", "app_id": 3}
        device |= {"created_at": 1, "seen_at": 1}
        await connection.execute(insert(chat_devices).values(**device))
        session = {"site_id": site_id, "user_id": 7, "device_id": 5, "created_at": 1, "expires_at": far}
        await connection.execute(insert(chat_sessions).values(**session, digest=digest("token")))
        await connection.execute(insert(chat_sessions).values(**(session | {"expires_at": 1}), digest=digest("old")))
    sessions = JournalSessions(sql)
    assert await sessions.user_of(SITE, "token") == FileUser(7, "user_7", "phone", "notes")
    for site, token in ((SITE, "old"), (SITE, "guess"), (SITE, ""), (SITE, "token" * 1_000), (OTHER, "token")):
        assert await sessions.user_of(site, token) is None
    for change in ({"is_disabled": True}, {"is_disabled": False, "must_change": True}):
        async with sql.writing(SITE) as (connection, _):
            await connection.execute(update(chat_users).values(**change))
        assert await sessions.user_of(SITE, "token") is None


def test_the_columns_of_a_file_are_those_of_its_row() -> None:
    """Nothing of a row is left out of the record but what belongs to its removal and its count."""
    assert {*chat_files.c.keys()} - {*FileRecord.__struct_fields__} == {"site_id", "removed_at", "requests"}
