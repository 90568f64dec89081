"""Downloads: the bytes of a file, piece by piece, as fast as the client takes them."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct

from app.clock import now_ms
from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.http_request import Send
from app.protocols.messenger.files.ports import (
    PIECE_BYTES,
    FileRights,
    FileRows,
    FilesUnavailable,
    FileUser,
    PartStore,
    transfer_of,
)
from app.protocols.messenger.files.ranges import ByteSpan
from app.protocols.messenger.files.records import FileRecord, pieces_of
from app.transport.refusals import ANSWER_UNREAD, refused
from app.transport.streaming import AnswerWatch

#: The time in which a client takes a piece: a slower one would hold its place among the requests for hours.
PIECE_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class Delivered(Struct):
    """The bytes that a download has sent so far. Lives as long as the request."""

    bytes: int = 0


class Downloads:
    """The downloads of one node. Lives as long as the node."""

    def __init__(self, book: FileRows, store_of: Callable[[str], PartStore], rights: FileRights, node: str) -> None:
        self._book = book
        self._store_of = store_of
        self._rights = rights
        self._node = node

    async def find(self, site: Site, user: int, file: str) -> FileRecord:
        """A finished file that the user may read. Raises RequestRefused: another's file is as none."""
        found = await self._book.find(site, file)
        is_whole = found is not None and found.finished_at is not None
        if found is None or not is_whole or not await self._may_read(site, user, found):
            raise RequestRefused("There is no such file.", "unknown_file", 404)
        return found

    async def _may_read(self, site: Site, user: int, file: FileRecord) -> bool:
        return file.user_id == user or await self._rights.may_read(site, user, file.id)

    async def send(
        self, site: Site, user: FileUser, file: FileRecord, span: ByteSpan, way: tuple[Send, AnswerWatch]
    ) -> int:
        """Sends the bytes behind the head, and leaves the row of the transfer. Returns how many bytes were sent. Breaks
        the answer off when the client does not take them, or the store fails."""
        began = monotonic()
        delivered = Delivered()
        try:
            await self._send(site, file, span, way, delivered)
        except FilesUnavailable as error:
            _log.error("file not read", site=site.name, file=file.id, reason=str(error))
            way[1].cut_off()
        except TimeoutError:
            refused[ANSWER_UNREAD] += 1
            way[1].cut_off()
        ms = round((monotonic() - began) * 1000)
        times = {"bytes": delivered.bytes, "ms": ms, "is_resumed": span.start > 0}
        await self._note(site, transfer_of(user, file.id, "download", self._node, now_ms()) | times)
        return delivered.bytes

    async def note_time(self, site: Site, user: FileUser, file: str, direction: str, ms: int) -> bool:
        """Adds the time that a client has measured to its last transfer of a file. False: there is none."""
        return await self._book.add_client_ms(site, transfer_of(user, file, direction, self._node, now_ms()), ms)

    async def _send(
        self, site: Site, file: FileRecord, span: ByteSpan, way: tuple[Send, AnswerWatch], delivered: Delivered
    ) -> None:
        send, watch = way
        store = self._store_of(file.store)
        for piece in pieces_of(file.parts, span.start, span.end, PIECE_BYTES):
            if watch.is_gone:
                return
            data = await store.read(site.name, piece.part, piece.start, piece.count)
            async with asyncio.timeout(PIECE_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            delivered.bytes += len(data)
        await send({"type": "http.response.body", "body": b""})

    async def _note(self, site: Site, transfer: dict[str, Any]) -> None:
        try:
            await self._book.add_transfer(site, transfer)
        except FilesUnavailable as error:
            _log.warning("transfer not noted", site=site.name, reason=str(error))
