"""The files of a site without the rest of a messenger: sessions and rights are what a test says.

As a program it serves them in a process of its own, which tests kill and measure:
`python -m tests.support.file_site DATABASE_URL FILES DATA_DIR PART_BYTES`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop

from app.config.settings import Site
from app.node.dispatch import Dispatcher
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Send
from app.protocols.messenger.files.disk_parts import DiskParts, new_disk_pool
from app.protocols.messenger.files.downloads import Downloads
from app.protocols.messenger.files.endpoint import FileEndpoint, FileSites
from app.protocols.messenger.files.journal_files import FileBook
from app.protocols.messenger.files.ports import FileUser, PartStore
from app.protocols.messenger.files.s3_parts import PartMemory, S3Parts
from app.protocols.messenger.files.services import bounds_of
from app.protocols.messenger.files.uploads import Uploads
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger
from app.transport.http import HttpProtocol

#: Tokens of sessions and their users; every fake knows them.
USERS = {
    "token-ann": FileUser(1, "user_1", "phone", "tests"),
    "token-bob": FileUser(2, "user_2", "desk", None),
}
SITE = "shop"


async def _room_of(site: Site, user: int) -> str:
    return f"user_{user}"


class FakeSessions:
    """Sessions as a test says. Implements `SessionCheck`."""

    def __init__(self) -> None:
        """Know the usual ones."""
        self.users = dict(USERS)

    async def user_of(self, site: Site, token: str) -> FileUser | None:
        """The user of a token."""
        return self.users.get(token)


class FakeRights:
    """The readers of files as a test says. Implements `FileRights`."""

    def __init__(self) -> None:
        """Let nobody read."""
        self.readers: set[tuple[int, str]] = set()

    async def may_read(self, site: Site, user: int, file: str) -> bool:
        """Whether the test lets it."""
        return (user, file) in self.readers


class FileSite:
    """The files of one site on one node. Lives for a test; `close` ends it."""

    def __init__(
        self, sql: ChatSql, data_dir: Path, settings: Messenger, origins: tuple[str, ...] | None = None
    ) -> None:
        """Compose the parts, as a node does."""
        self.site = Site(name=SITE, api_key="key", sections={Messenger: settings}, origins=origins)
        self.settings = settings
        self.sessions, self.rights = FakeSessions(), FakeRights()
        #: By path: the bytes of requests that were read, those of answers that were sent, and the requests under way.
        self.bytes_read: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.pool: FairPool = new_disk_pool()
        self.folder = data_dir / "files"
        self.disk: PartStore = DiskParts(self.folder, self.pool)
        self._s3: dict[str, PartStore] = {}
        self.memory = PartMemory()
        self.sql = sql
        self.book = FileBook(sql)
        self.uploads = Uploads(self.book, self.store_of, "node")
        self.downloads = Downloads(self.book, self.store_of, self.rights, "node")
        self.counts = Counts([])
        facts = FileSites({SITE: self.site}, bounds_of, sql.secret_of, _room_of)
        self.endpoint = FileEndpoint(facts, self.sessions, self.uploads, self.downloads, self.counts)
        self.dispatcher = Dispatcher(cast(Any, _nothing), {}, {}, ())
        self.dispatcher.serve_sites({"files": self.endpoint})

    def store_of(self, url: str) -> PartStore:
        """The store of a row."""
        if not url:
            return self.disk
        if url not in self._s3:
            self._s3[url] = S3Parts(url, self.memory)
        return self._s3[url]

    @property
    def store(self) -> PartStore:
        """The store of new files."""
        bounds = bounds_of(self.site)
        assert bounds is not None
        return self.store_of(bounds.store)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]

        async def counted_receive() -> MutableMapping[str, Any]:
            event = await receive()
            self.bytes_read[path] += len(event.get("body", b""))
            return event

        async def counted_send(event: MutableMapping[str, Any]) -> None:
            self.bytes_sent[path] += len(event.get("body", b""))
            await send(event)

        self.under_way[path] += 1
        try:
            await self.dispatcher(dict(scope), counted_receive, counted_send)
        finally:
            self.under_way[path] -= 1

    async def close(self) -> None:
        """End the threads and the connections to SQL."""
        self.pool.close()
        await self.sql.close()


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no test opens a socket here")


async def _serve(database_url: str, files: str, data_dir: str, part_bytes: str) -> None:
    sql = ChatSql.open(database_url)
    await sql.make_tables()
    settings = Messenger(files=files or True, file_part_bytes=int(part_bytes))
    site = FileSite(sql, Path(data_dir), settings)
    config = uvicorn.Config(site, host="127.0.0.1", port=0, http=HttpProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    print("port", server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:]))
