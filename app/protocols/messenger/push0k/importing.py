"""The import of a database of push0k into a site: its phases, each in parts that commit for themselves.

users → rooms → contacts → programs, devices → attachments → messages → receipts

A part is one transaction under the lock of the site, as a change by a user is, so nodes may run meanwhile. It writes
into the map what it makes: after a kill, or a repetition, the same way is walked again and finds that there.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import Site
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.files.ports import FilesUnavailable
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.push0k.attachments import AttachmentLost, files_of
from app.protocols.messenger.push0k.journal_copies import AttachmentCopies, file_id
from app.protocols.messenger.push0k.journal_map import ids_of
from app.protocols.messenger.push0k.journal_messages import add_messages
from app.protocols.messenger.push0k.journal_people import (
    TellPassword,
    add_apps,
    add_contacts,
    add_devices,
    add_rooms,
    add_users,
)
from app.protocols.messenger.push0k.journal_receipts import add_receipts
from app.protocols.messenger.push0k.journal_source import PushSource
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.passwords import ImportedKeys, imported_keys, is_kept
from app.protocols.messenger.push0k.source_rows import PushMessage, PushUser
from app.protocols.messenger.settings import Messenger

#: The rows of one transaction: it has to be over within the deadline of `ChatSql`, on a busy machine too.
_USERS, _ROOMS, _CONTACTS, _ROWS = 20, 10, 100, 200
#: A part that SQL has not answered is tried so often: it may be there after all, and is found then.
_TRIES = 5
_PAUSE_SECONDS = 1.0

_T = TypeVar("_T")
#: Makes a part within a transaction of a site.
_Work = Callable[[AsyncConnection, int], Awaitable[ImportOutcome]]


class ImportPlace(Struct, frozen=True):
    """The place that is imported into, and what the import tells. Lives as long as the import."""

    sql: ChatSql
    site: Site
    #: None: there are no attachments, or none is to come along.
    copies: AttachmentCopies | None
    folder: Path | None
    #: Is told logins and their first passwords before they count.
    tell_password: TellPassword
    #: Is told each note, and what is over.
    tell_note: Callable[[str], None]
    tell_progress: Callable[[str], None]


class PushImport:
    """One import. Lives until `run` has returned."""

    def __init__(self, source: PushSource, place: ImportPlace) -> None:
        self._source = source
        self._place = place
        self._outcome = ImportOutcome()

    async def run(self) -> ImportOutcome:
        """Imports everything that is not there. Raises ChatUnavailable, FilesUnavailable and JournalUnavailable: then a
        repetition goes on from there."""
        source = self._source
        await self._users()
        await self._each(source.rooms(_ROOMS), add_rooms)
        await self._each(source.contacts(_CONTACTS), add_contacts)
        await self._each(source.apps(_ROWS), add_apps)
        await self._each(source.devices(_ROWS), add_devices)
        self._place.tell_progress("users and rooms are there")
        await self._attachments()
        async for part in source.messages(_ROWS):
            ids = await self._file_ids(part)
            await self._commit(_work(add_messages, part, ids))
        self._place.tell_progress("messages are there")
        await self._each(source.receipts(_ROWS), add_receipts)
        return self._outcome

    async def _users(self) -> None:
        settings = self._place.site.require_section(Messenger)
        async for part in self._source.users(_USERS):
            async with self._place.sql.reading(self._place.site) as (sql, site_id):
                known = await ids_of(sql, site_id, "user", [user.id for user in part])
            keys = await _keys_of([user for user in part if user.id not in known], settings.iterations)
            await self._commit(_work(add_users, part, keys, self._place.tell_password))

    async def _attachments(self) -> None:
        copies, folder = self._place.copies, self._place.folder
        if copies is None or folder is None:
            return
        async for part in self._source.attachments(_ROWS):
            for message in part:
                outcome = ImportOutcome()
                await _tried(partial(copies.copy, folder, message, outcome))
                self._add(outcome)
        self._place.tell_progress("attachments are there")

    async def _file_ids(self, part: Sequence[PushMessage]) -> dict[str, str]:
        secret = await self._place.sql.secret_of(self._place.site)
        return {one.id: file_id(secret, one.id) for one in part if one.has_file and one.parent is None}

    async def _each(
        self,
        parts: AsyncIterator[list[_T]],
        make: Callable[[AsyncConnection, int, Sequence[_T]], Awaitable[ImportOutcome]],
    ) -> None:
        async for part in parts:
            await self._commit(_work(make, part))

    async def _commit(self, work: _Work) -> None:
        async def once() -> ImportOutcome:
            async with self._place.sql.writing(self._place.site) as (sql, site_id):
                return await work(sql, site_id)

        self._add(await _tried(once))

    def _add(self, outcome: ImportOutcome) -> None:
        for note in self._outcome.add(outcome):
            self._place.tell_note(note)


def _work(make: Callable[..., Awaitable[ImportOutcome]], *rest: Any) -> _Work:
    async def work(sql: AsyncConnection, site_id: int) -> ImportOutcome:
        return await make(sql, site_id, *rest)

    return work


async def _tried(work: Callable[[], Awaitable[_T]]) -> _T:
    for _ in range(_TRIES - 1):
        try:
            return await work()
        except (ChatUnavailable, FilesUnavailable):
            await asyncio.sleep(_PAUSE_SECONDS)
    return await work()


async def _keys_of(users: Sequence[PushUser], iterations: int) -> dict[str, ImportedKeys]:
    """The keys of users. Hashing needs no lock of the interpreter, so it is done on every core."""
    turns = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(user: PushUser) -> tuple[str, ImportedKeys]:
        async with turns:
            return user.id, await asyncio.to_thread(imported_keys, user.stored, iterations)

    return dict(await asyncio.gather(*map(one, users)))


async def look(source: PushSource, folder: Path | None) -> ImportOutcome:
    """The things that an import would find, without any change."""
    outcome, counts = ImportOutcome(), await source.counts()
    for name in counts.__struct_fields__:
        outcome.counts[name] = getattr(counts, name)
    async for users in source.users(_ROWS):
        outcome.counts["first_passwords"] += sum(not is_kept(user.stored) for user in users)
        outcome.counts["disabled_users"] += sum(user.is_marked for user in users)
    if folder is not None:
        async for messages in source.attachments(_ROWS):
            for message in messages:
                try:
                    files_of(folder, message.id)
                except AttachmentLost as error:
                    outcome.note("missing_files", f"file of message {message.id}: {error}")
    return outcome
