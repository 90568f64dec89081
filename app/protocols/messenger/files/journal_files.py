"""The rows of files and of transfers in SQL. Decides nothing about requests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import Row, and_, case, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import Site
from app.journal.tables import transfers
from app.protocols.messenger.files.journal_absence import answered
from app.protocols.messenger.files.ports import Transfer
from app.protocols.messenger.files.records import LEAST_COUNTED_BYTES, FileRecord, Part, Progress, check_quota
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import UNFINISHED_FILES, chat_files

#: Files that one round of the expiry takes.
MOST_EXPIRED_AT_ONCE = 100
#: How far back the client may add its own time to a transfer.
_CLIENT_MS_WITHIN_MS = 86_400_000

_files = chat_files.c


class FileBook:
    """The rows of files. Holds no state; lives as long as the node. Implements `FileRows`."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    @asynccontextmanager
    async def _reading(self, site: Site) -> AsyncIterator[tuple[AsyncConnection, int]]:
        with answered():
            async with self._sql.reading(site) as found:
                yield found

    @asynccontextmanager
    async def _writing(self, site: Site) -> AsyncIterator[tuple[AsyncConnection, int]]:
        with answered():
            async with self._sql.writing(site) as found:
                yield found

    async def add(self, site: Site, file: FileRecord, quota_bytes: int) -> FileRecord:
        """Adds a file; see `FileRows`."""
        async with self._writing(site) as (sql, site_id):
            check_quota(*await _held(sql, site_id, file.user_id), file.size, quota_bytes)
            values = _values(file) | {"site_id": site_id}
            await sql.execute(insert(chat_files).values(**values))
            return msgspec.structs.replace(file, place=_place(site_id, file.id))

    async def find(self, site: Site, file: str) -> FileRecord | None:
        """A file that is not being removed."""
        async with self._reading(site) as (sql, site_id):
            found = select(chat_files).where(*_of(site_id, file), _files.removed_at.is_(None))
            row = (await sql.execute(found)).first()
        return None if row is None else _record(row)

    async def advance(self, site: Site, file: FileRecord, progress: Progress, now_ms: int, transfer: Transfer) -> bool:
        """Notes more bytes of a file, and at its end the transfer; see `FileRows`."""
        is_finished = progress.received == file.size
        values: dict[str, Any] = {
            "received": progress.received,
            "parts": _encoded(progress.parts),
            "upload_ms": _files.upload_ms + progress.ms,
            "requests": _files.requests + 1,
        }
        if progress.is_broken:
            values["is_resumed"] = True
        if is_finished:
            values |= {"finished_at": now_ms, "expires_at": None}
        async with self._writing(site) as (sql, site_id):
            is_same = (_files.received == file.received, _files.removed_at.is_(None), _files.finished_at.is_(None))
            changed = update(chat_files).where(*_of(site_id, file.id), *is_same).values(**values)
            found = (await sql.execute(changed.returning(_files.upload_ms, _files.is_resumed))).first()
            if found is not None and is_finished:
                times = {"ms": found.upload_ms, "is_resumed": found.is_resumed}
                await sql.execute(insert(transfers).values(**transfer, **times, site_id=site_id))
        return found is not None

    async def note_resumed(self, site: Site, file: str) -> None:
        """Notes that an upload goes on after a break."""
        async with self._writing(site) as (sql, site_id):
            changed = update(chat_files).where(*_of(site_id, file), _files.finished_at.is_(None))
            await sql.execute(changed.values(is_resumed=True))

    async def begin_removal(self, site: Site, file: str, now_ms: int) -> bool:
        """Hides a file for good, unless it was sent."""
        async with self._writing(site) as (sql, site_id):
            changed = update(chat_files).where(*_of(site_id, file), _files.sent_at.is_(None))
            answer = await sql.execute(changed.where(_files.removed_at.is_(None)).values(removed_at=now_ms))
            return bool(answer.rowcount)

    async def hide_expired(self, site: Site, now_ms: int) -> Sequence[FileRecord]:
        """Hides unfinished files whose time has passed, a bounded number; see `FileRows`."""
        async with self._writing(site) as (sql, site_id):
            is_over = and_(_files.finished_at.is_(None), _files.expires_at <= now_ms)
            # Also in the words of the index, by which alone SQLite takes it.
            looked = (
                _files.site_id == site_id,
                text(f"({UNFINISHED_FILES})"),
                or_(is_over, _files.removed_at.is_not(None)),
            )
            ids = select(_files.id).where(*looked)
            chosen = _files.id.in_(ids.limit(MOST_EXPIRED_AT_ONCE).scalar_subquery())
            hidden = func.coalesce(_files.removed_at, now_ms)
            changed = update(chat_files).where(_files.site_id == site_id, chosen).values(removed_at=hidden)
            return [_record(row) for row in await sql.execute(changed.returning(chat_files))]

    async def hide_some(self, site: Site, now_ms: int) -> Sequence[FileRecord]:
        """Hides files of a site that is gone, a bounded number; see `FileRows`."""
        async with self._writing(site) as (sql, site_id):
            ids = select(_files.id).where(_files.site_id == site_id).limit(MOST_EXPIRED_AT_ONCE)
            hidden = func.coalesce(_files.removed_at, now_ms)
            changed = update(chat_files).where(_files.id.in_(ids.scalar_subquery())).values(removed_at=hidden)
            return [_record(row) for row in await sql.execute(changed.returning(chat_files))]

    async def forget(self, site: Site, file: str) -> None:
        """Deletes the row of a hidden file."""
        async with self._writing(site) as (sql, site_id):
            await sql.execute(delete(chat_files).where(*_of(site_id, file), _files.removed_at.is_not(None)))

    async def add_transfer(self, site: Site, transfer: Transfer) -> None:
        """Adds the row of a transfer."""
        async with self._writing(site) as (sql, site_id):
            await sql.execute(insert(transfers).values(**transfer, site_id=site_id))

    async def add_client_ms(self, site: Site, transfer: Transfer, client_ms: int) -> bool:
        """Adds the time of a client to its newest transfer like this one; see `FileRows`."""
        async with self._writing(site) as (sql, site_id):
            like = [transfers.c[name] == transfer[name] for name in ("file", "user", "device", "kind")]
            since = transfer["at"] - _CLIENT_MS_WITHIN_MS
            found = select(transfers.c.id).where(transfers.c.site_id == site_id, transfers.c.at >= since, *like)
            newest = found.order_by(transfers.c.at.desc(), transfers.c.id.desc()).limit(1).scalar_subquery()
            changed = update(transfers).where(transfers.c.id == newest).values(client_ms=client_ms)
            return bool((await sql.execute(changed)).rowcount)


async def _held(sql: AsyncConnection, site_id: int, user: int) -> tuple[int, int]:
    """The unfinished uploads of a user, and the bytes of all its files."""
    counted = case((_files.size < LEAST_COUNTED_BYTES, LEAST_COUNTED_BYTES), else_=_files.size)
    unfinished = func.count(case((_files.finished_at.is_(None), 1)))
    wanted = select(unfinished, func.coalesce(func.sum(counted), 0))
    row = (await sql.execute(wanted.where(_files.site_id == site_id, _files.user_id == user))).one()
    return int(row[0]), int(row[1])


def _of(site_id: int, file: str) -> tuple[Any, Any]:
    return _files.site_id == site_id, _files.id == file


def _place(site_id: int, file: str) -> str:
    return f"{site_id}/{file}"


def _encoded(parts: tuple[Part, ...]) -> str:
    return msgspec.json.encode(parts).decode()


def _values(file: FileRecord) -> dict[str, Any]:
    values = msgspec.structs.asdict(file) | {"parts": _encoded(file.parts), "device": file.device or ""}
    del values["place"]
    return values


def _record(row: Row[Any]) -> FileRecord:
    values = dict(row._mapping)
    parts = msgspec.json.decode(values["parts"], type=tuple[Part, ...])
    known = {name: values[name] for name in FileRecord.__struct_fields__ if name in values}
    known |= {"parts": parts, "place": _place(values["site_id"], values["id"]), "device": values["device"] or None}
    return FileRecord(**known)
