"""Attachments of push0k as files of the messenger: bytes in the store of the site, and rows.

A file here has an id that follows from its message. Its row is there before its bytes, as that of an upload: the bytes
of an import that was given up go when the row's time is over. A repetition begins the file again under the same id.
"""

import hmac
import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from app.clock import now_ms
from app.config.settings import Site
from app.errors import RecadoError
from app.journal.inserting import inserter
from app.protocols.messenger.files.names import clean_type
from app.protocols.messenger.files.ports import PartStore
from app.protocols.messenger.files.records import UNFINISHED_SECONDS, Part
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_files
from app.protocols.messenger.push0k.attachments import AttachmentLost, attachment_bytes, attachment_name, files_of
from app.protocols.messenger.push0k.journal_map import ids_of
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.source_rows import PushMessage

_ID_BYTES = 16
_FILE = chat_files.c


class AttachmentCopies:
    """Copies attachments into the store of a site. Lives as long as the import."""

    def __init__(self, sql: ChatSql, site: Site, store: PartStore, url: str, part_bytes: int) -> None:
        """`url` is that of the store, as rows have it."""
        self._sql = sql
        self._site = site
        self._store = store
        self._url = url
        self._part_bytes = part_bytes

    async def copy(self, folder: Path, message: PushMessage, outcome: ImportOutcome) -> None:
        """Copies one attachment, unless it is there. Raises ChatUnavailable and FilesUnavailable."""
        id = file_id(await self._sql.secret_of(self._site), message.id)
        if await self._is_there(id):
            outcome.counts["files_there"] += 1
            return
        try:
            files = files_of(folder, message.id)
            if not await self._begin(id, message):
                outcome.counts["files_left_out"] += 1
                return
            size = await self._finish(id, await self._write(id, files), message)
        except AttachmentLost as error:
            await self._give_up(id)
            outcome.note("missing_files", f"file of message {message.id}: {error}")
            return
        if size != message.size:
            text = f"file of message {message.id}: has {size} bytes, and push0k's row says {message.size}"
            outcome.note("files_of_another_size", text)
        outcome.counts["files"] += 1
        outcome.counts["file_bytes"] += size

    async def _is_there(self, id: str) -> bool:
        async with self._sql.reading(self._site) as (sql, site_id):
            statement = select(_FILE.finished_at, _FILE.removed_at).where(_FILE.site_id == site_id, _FILE.id == id)
            row = (await sql.execute(statement)).one_or_none()
        if row is not None and row.removed_at is not None:
            raise RecadoError("the files of an earlier import are being removed, repeat the import in a minute")
        return row is not None and row.finished_at is not None

    async def _begin(self, id: str, message: PushMessage) -> bool:
        """Makes the row of an unfinished file; False: its owner is unknown."""
        async with self._sql.writing(self._site) as (sql, site_id):
            owner = (await ids_of(sql, site_id, "user", [message.sender])).get(message.sender)
            if owner is None:
                return False
            name = attachment_name(message)
            values = {
                "id": id,
                "site_id": site_id,
                "user_id": owner,
                "device": "",
                "name": name,
                "type": clean_type(mimetypes.guess_type(name)[0] or ""),
                "store": self._url,
                "size": message.size,
                "created_at": message.at,
                "expires_at": now_ms() + UNFINISHED_SECONDS * 1000,
            }
            statement = inserter(sql)(chat_files).values(**values)
            later = {"expires_at": values["expires_at"], "store": self._url}
            await sql.execute(statement.on_conflict_do_update(index_elements=["id"], set_=later))
        return True

    async def _place(self, id: str) -> str:
        async with self._sql.reading(self._site) as (_, site_id):
            return f"{site_id}/{id}"

    async def _write(self, id: str, files: list[Path]) -> list[Part]:
        """The parts of a file, durable; those of a run that was killed are deleted before."""
        place, parts = await self._place(id), []
        await self._store.keep_only(self._site.name, place, [])
        for size, pieces in _portions(attachment_bytes(files), self._part_bytes):
            writer = await self._store.begin(self._site.name, place, self._part_bytes)
            try:
                for piece in pieces:
                    await writer.write(piece)
                parts.append((await writer.finish(), size))
            except BaseException:
                await writer.abandon()
                raise
        return parts

    async def _finish(self, id: str, parts: list[Part], message: PushMessage) -> int:
        size = sum(count for _, count in parts)
        values = {
            "parts": msgspec.json.encode(parts).decode(),
            "size": size,
            "received": size,
            "finished_at": message.at,
            "sent_at": message.at,
            "expires_at": None,
        }
        async with self._sql.writing(self._site) as (sql, site_id):
            await sql.execute(update(chat_files).where(*_unfinished(site_id, id)).values(**values))
        return size

    async def _give_up(self, id: str) -> None:
        await self._store.keep_only(self._site.name, await self._place(id), [])
        async with self._sql.writing(self._site) as (sql, site_id):
            await sql.execute(delete(chat_files).where(*_unfinished(site_id, id)))


def file_id(secret: bytes, message: str) -> str:
    """The id here of the file of a message, for one import and its repetitions."""
    return hmac.digest(secret, f"push0k:{message}".encode(), "sha256")[:_ID_BYTES].hex()


def _unfinished(site_id: int, id: str) -> tuple[Any, ...]:
    return _FILE.site_id == site_id, _FILE.id == id, _FILE.finished_at.is_(None)


def _portions(data: Iterator[bytes], most: int) -> Iterator[tuple[int, list[bytes]]]:
    """The bytes in portions of `most`, the last one shorter, each in some pieces. In memory is one portion."""
    held: list[bytes] = []
    size = 0
    for piece in data:
        while piece:
            taken, piece = piece[: most - size], piece[most - size :]
            held.append(taken)
            size += len(taken)
            if size == most:
                yield size, held
                held, size = [], 0
    if size:
        yield size, held
