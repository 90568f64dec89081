"""An import put together: the database of push0k, the tables of the messenger, and the store of its files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from app.config.settings import Config, Site
from app.errors import ConfigError
from app.protocols.messenger.files.disk_parts import DiskParts, new_disk_pool
from app.protocols.messenger.files.s3_parts import PartMemory, S3Parts
from app.protocols.messenger.files.services import FILES_FOLDER, bounds_of
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.push0k.importing import ImportPlace, PushImport, look
from app.protocols.messenger.push0k.journal_copies import AttachmentCopies
from app.protocols.messenger.push0k.journal_people import TellPassword
from app.protocols.messenger.push0k.journal_source import open_source
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.settings import is_beside

#: The database of the messenger is waited for this long.
_SECONDS = 15.0


class ImportWishes(Struct, frozen=True):
    """The wishes of whoever imports. Lives as long as the command; its repr has no URL, which may hold a password."""

    url: str
    #: The folder of the attachments; None: they do not come along.
    folder: Path | None
    is_dry: bool
    tell_password: TellPassword
    tell_note: Callable[[str], None]
    tell_progress: Callable[[str], None]

    def __repr__(self) -> str:
        return f"ImportWishes(folder={self.folder!r})"


async def import_push0k(config: Config, site: Site, wishes: ImportWishes) -> ImportOutcome:
    """Imports a database of push0k into a site with a messenger, or looks at it. Raises ConfigError, JournalUnavailable
    for the database of push0k, ChatUnavailable and TimeoutError for that of the messenger, and FilesUnavailable."""
    if is_beside(site):
        raise ConfigError(f"{site.name}.authUrl: expected a site without it, whose users log in here")
    if wishes.folder is not None and bounds_of(site) is None:
        raise ConfigError(f"{site.name}.messenger.files: expected true or an s3:// URL to import attachments")
    async with open_source(wishes.url) as source:
        if wishes.is_dry:
            return await look(source, wishes.folder)
        async with _target(config, site, wishes.folder is not None) as (sql, copies):
            told = (wishes.tell_password, wishes.tell_note, wishes.tell_progress)
            return await PushImport(source, ImportPlace(sql, site, copies, wishes.folder, *told)).run()


@asynccontextmanager
async def _target(
    config: Config, site: Site, has_files: bool
) -> AsyncIterator[tuple[ChatSql, AttachmentCopies | None]]:
    """The tables, made if they are not there, and the store of the site's files."""
    assert config.journal_url is not None, "the command has looked"
    sql, pool, bounds = ChatSql.open(config.journal_url), new_disk_pool(), bounds_of(site)
    try:
        async with asyncio.timeout(_SECONDS):
            await sql.make_tables()
        copies = None
        if has_files and bounds is not None:
            is_disk = bounds.store == ""
            disk = DiskParts(config.data_dir / FILES_FOLDER, pool)
            store = disk if is_disk else S3Parts(bounds.store, PartMemory())
            copies = AttachmentCopies(sql, site, store, bounds.store, bounds.part_bytes)
        yield sql, copies
    finally:
        pool.close()
        await sql.close()
