"""The files of one node: composes their rows, stores, endpoint and expiry, and ends them with the node."""

from collections.abc import Iterator

from app.clock import now_ms
from app.config.settings import Site
from app.errors import ConfigError
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.files.disk_parts import DiskParts, new_disk_pool
from app.protocols.messenger.files.downloads import Downloads
from app.protocols.messenger.files.endpoint import FileEndpoint, FileSites
from app.protocols.messenger.files.journal_absence import answered
from app.protocols.messenger.files.journal_files import FileBook
from app.protocols.messenger.files.journal_rights import JournalRights
from app.protocols.messenger.files.journal_sessions import JournalSessions
from app.protocols.messenger.files.links import link_to
from app.protocols.messenger.files.ports import FilesUnavailable, PartStore
from app.protocols.messenger.files.redis_expiry import FileExpiry
from app.protocols.messenger.files.s3_parts import PartMemory, S3Parts
from app.protocols.messenger.files.uploads import UploadBounds, Uploads
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger
from app.protocols.protocol import NodeServices

#: The folder in the data directory.
FILES_FOLDER = "files"


class NodeFiles:
    """Lives as long as the node: `start` begins, `close` ends."""

    def __init__(self, services: NodeServices, sql: ChatSql, names: ChatNames) -> None:
        """Opens the stores of all sites, without a request to them. Raises ConfigError."""
        config = services.config
        self._sites = config.sites
        self._sql = sql
        self._pool = new_disk_pool()
        self._memory = PartMemory()
        self._stores: dict[str, PartStore] = {"": DiskParts(config.data_dir / FILES_FOLDER, self._pool)}
        book = FileBook(sql)
        self._uploads = uploads = Uploads(book, self._store_of, services.node)
        self._downloads = Downloads(book, self._store_of, JournalRights(sql), services.node)
        self._names = names
        facts = FileSites(config.sites, bounds_of, self._secret_of, self._room_of)
        #: Answers the paths of the sites that it `serves`.
        self.endpoint = FileEndpoint(facts, JournalSessions(sql), uploads, self._downloads, services.counts)
        for site in self._with_files():
            if (bounds := bounds_of(site)) is not None:
                self._opened(bounds.store)
        self._expiry = FileExpiry(services.redis, services.node, uploads.expire, self._with_files)

    def start(self) -> None:
        """Begins to remove unfinished uploads."""
        self._expiry.start()

    async def close(self) -> None:
        """Ends the threads and the rounds."""
        await self._expiry.close()
        self._pool.close()

    async def link(self, site: Site, user: int, file: str) -> str:
        """The path by which a browser gets a file for a minute, without a session. Raises FilesUnavailable, and
        RequestRefused unless the user may read the file."""
        await self._downloads.find(site, user, file)
        return link_to(await self._secret_of(site), site.name, file, user, now_ms())

    async def forget(self, site: Site) -> bool:
        """Removes some files of a site that is gone; True: there are none any more. Raises FilesUnavailable."""
        return await self._uploads.remove_some(site)

    def _with_files(self) -> Iterator[Site]:
        return (site for site in list(self._sites.values()) if bounds_of(site) is not None)

    async def _secret_of(self, site: Site) -> bytes:
        with answered():
            return await self._sql.secret_of(site)

    async def _room_of(self, site: Site, user: int) -> str:
        return (await self._names.user_rooms(site, [user]))[0]

    def _opened(self, url: str) -> PartStore:
        """The store at a URL, one for each bucket and prefix. Raises ConfigError."""
        if url not in self._stores:
            self._stores[url] = S3Parts(url, self._memory)
        return self._stores[url]

    def _store_of(self, url: str) -> PartStore:
        """The store of a row. Raises FilesUnavailable."""
        try:
            return self._opened(url)
        except ConfigError as error:
            raise FilesUnavailable(str(error)) from None


def bounds_of(site: Site) -> UploadBounds | None:
    """The bounds of a site's uploads; None: it has no files."""
    settings = site.section(Messenger)
    if settings is None or settings.files is False:
        return None
    store = settings.files if isinstance(settings.files, str) else ""
    return UploadBounds(settings.file_part_bytes, settings.file_max_bytes, settings.file_quota_bytes, store)
