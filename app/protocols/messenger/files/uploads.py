"""Uploads: creation, bytes, end and removal, on the ports of rows and of parts. Knows no HTTP but the statuses of its
refusals.

Bytes count when they are durable and the row names their part. A node that is killed in between leaves a part that
nobody names; the client asks for the offset, and sends these bytes again.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
from msgspec import Struct, structs

from app.clock import now_ms
from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.messenger.files.body import BodyEnd, UploadBody
from app.protocols.messenger.files.ports import (
    PIECE_BYTES,
    FileRows,
    FilesUnavailable,
    FileUser,
    PartStore,
    PartWriter,
    transfer_of,
)
from app.protocols.messenger.files.records import (
    UNFINISHED_SECONDS,
    FileRecord,
    PartPlan,
    Progress,
    pieces_of,
    plan_part,
)
from app.protocols.messenger.files.tus_headers import CHECKSUM_MISMATCH, Checksum, NewFile, new_hash
from app.transport.refusals import BODY_TOO_SLOW, refused

_ID_BYTES = 16
#: How long a request waits for the one that it ends.
HAND_OVER_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class UploadBounds(Struct, frozen=True):
    """The bounds of uploads of one site, and where its new files go. Lives as long as the request."""

    part_bytes: int
    max_bytes: int
    #: 0: none.
    quota_bytes: int
    #: "" is the disk.
    store: str


class _Running:
    """A request that brings bytes of a file. Lives as long as the request."""

    def __init__(self, body: UploadBody) -> None:
        self.body = body
        self.is_over = asyncio.Event()


class _Taken(Struct):
    """The bytes that a request has brought so far. Lives as long as the request."""

    count: int = 0
    is_right: bool = True


class Uploads:
    """The uploads of one node. Lives as long as the node."""

    def __init__(self, book: FileRows, store_of: Callable[[str], PartStore], node: str) -> None:
        """`store_of` returns the store of a row: "" is the disk, else the URL of a bucket."""
        self._book = book
        self._store_of = store_of
        self._node = node
        self._running: dict[str, _Running] = {}

    async def create(self, site: Site, user: FileUser, new: NewFile, bounds: UploadBounds) -> FileRecord:
        """Begins an upload. Raises RequestRefused."""
        if new.size > bounds.max_bytes:
            raise RequestRefused(f"Upload-Length: expected at most {bounds.max_bytes} bytes.", "too_long", 413)
        at = now_ms()
        is_finished = new.size == 0
        file = FileRecord(
            id=secrets.token_hex(_ID_BYTES),
            user_id=user.id,
            device=user.device,
            app=user.app,
            name=new.name,
            type=new.type,
            metadata=new.metadata,
            store=bounds.store,
            place="",
            size=new.size,
            received=0,
            parts=(),
            created_at=at,
            expires_at=None if is_finished else at + UNFINISHED_SECONDS * 1000,
            finished_at=at if is_finished else None,
            sent_at=None,
            upload_ms=0,
            is_resumed=False,
        )
        return await self._book.add(site, file, bounds.quota_bytes)

    async def find(self, site: Site, user: FileUser, file: str) -> FileRecord:
        """An upload of this user, with every byte that is on its way to the store. Raises RequestRefused."""
        found = await self._find(site, user, file)
        if await self._end_running(file):
            found = await self._find(site, user, file)
        return found

    async def note_resumed(self, site: Site, file: FileRecord) -> None:
        """Notes that a client has asked where to go on."""
        if 0 < file.received < file.size and not file.is_resumed:
            await self._book.note_resumed(site, file.id)

    async def append(
        self, site: Site, user: FileUser, file: FileRecord, body: UploadBody, checksum: Checksum | None, most: int
    ) -> FileRecord:
        """Stores the bytes of a request, up to `most` of them and as far as they come. Returns the file with them.
        Raises RequestRefused, FilesUnavailable."""
        async with self._as_running(file.id, body):
            began = asyncio.get_running_loop().time()
            plan, taken = plan_part(file.parts, most), _Taken()
            store = self._store_of(file.store)
            writer = await store.begin(site.name, file.place, 2 * most)
            try:
                await self._repeat(site, store, plan, writer)
                await _take(body, writer, min(most, file.left), checksum, taken)
                if not taken.is_right:
                    raise RequestRefused(
                        "Upload-Checksum: the bytes have another digest.", "checksum", CHECKSUM_MISMATCH
                    )
                if not taken.count:
                    await writer.abandon()
                    return _unchanged(file, body)
                part = await writer.finish()
            except BaseException:
                await writer.abandon()
                raise
            size = taken.count + (plan.repeated[1] if plan.repeated else 0)
            progress = Progress(
                parts=(*plan.kept, (part, size)),
                received=file.received + taken.count,
                ms=round((asyncio.get_running_loop().time() - began) * 1000),
                is_broken=body.end in (BodyEnd.GONE, BodyEnd.SLOW, BodyEnd.INTERRUPTED),
            )
            return await self._note(site, user, file, progress)

    async def terminate(self, site: Site, user: FileUser, file: str) -> None:
        """Removes an upload, finished or not, that no message carries. Raises RequestRefused."""
        found = await self.find(site, user, file)
        if not await self._book.begin_removal(site, file, now_ms()):
            raise RequestRefused("The file was sent in a message, so it stays.", "was_sent", 403)
        await self._remove(site, found)

    async def expire(self, site: Site) -> int:
        """Removes unfinished uploads whose time has passed. Returns how many it has removed."""
        removed = 0
        for file in await self._book.hide_expired(site, now_ms()):
            removed += await self._remove(site, file)
        return removed

    async def remove_some(self, site: Site) -> bool:
        """Removes some files of a site that is gone. True: there are none any more; those whose store is away stay."""
        files = await self._book.hide_some(site, now_ms())
        for file in files:
            await self._remove(site, file)
        return not files

    async def _find(self, site: Site, user: FileUser, file: str) -> FileRecord:
        found = await self._book.find(site, file)
        if found is None or found.user_id != user.id:
            raise RequestRefused("There is no such file.", "unknown_file", 404)
        if found.is_over(now_ms()):
            raise RequestRefused("The upload was not finished in time.", "expired", 410)
        return found

    async def _end_running(self, file: str) -> bool:
        """Makes the request that brings bytes of this file store these and end: its client has lost its connection, and
        begins another. Whether there was one. Raises RequestRefused."""
        running = self._running.get(file)
        if running is None:
            return False
        running.body.interrupt()
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await running.is_over.wait()
        except TimeoutError:
            raise RequestRefused("Another request brings bytes of this file, try again.", "locked", 423) from None
        return True

    @asynccontextmanager
    async def _as_running(self, file: str, body: UploadBody) -> AsyncIterator[None]:
        if file in self._running:
            raise RequestRefused("Another request brings bytes of this file, try again.", "locked", 423)
        running = self._running[file] = _Running(body)
        try:
            yield
        finally:
            del self._running[file]
            running.is_over.set()

    async def _repeat(self, site: Site, store: PartStore, plan: PartPlan, writer: PartWriter) -> None:
        """Begins a part with the bytes of the short one before it."""
        if plan.repeated is not None:
            for piece in pieces_of((plan.repeated,), 0, plan.repeated[1], PIECE_BYTES):
                await writer.write(await store.read(site.name, piece.part, piece.start, piece.count))

    async def _note(self, site: Site, user: FileUser, file: FileRecord, progress: Progress) -> FileRecord:
        at = now_ms()
        store = self._store_of(file.store)
        transfer = transfer_of(user, file.id, "upload", self._node, at) | {"bytes": file.size}
        if not await self._book.advance(site, file, progress, at, transfer):
            with _tolerated(site, file):
                await store.drop(site.name, [progress.parts[-1][0]])
            raise RequestRefused("Upload-Offset: another request was faster, ask for the offset.", "wrong_offset", 409)
        is_finished = progress.received == file.size
        gone = [name for name, _ in set(file.parts) - set(progress.parts)]
        with _tolerated(site, file):
            if is_finished:
                # Also the parts of requests that were killed: no other request can name a part of this file any more.
                await store.keep_only(site.name, file.place, [name for name, _ in progress.parts])
            elif gone:
                await store.drop(site.name, gone)
        return structs.replace(
            file,
            parts=progress.parts,
            received=progress.received,
            finished_at=at if is_finished else None,
            expires_at=None if is_finished else file.expires_at,
        )

    async def _remove(self, site: Site, file: FileRecord) -> bool:
        """Removes the parts and the row of a hidden file; what fails here is done by the next round of the expiry."""
        try:
            await self._store_of(file.store).keep_only(site.name, file.place, ())
        except FilesUnavailable as error:
            _log.warning("file not removed", site=site.name, file=file.id, reason=str(error))
            return False
        await self._book.forget(site, file.id)
        return True


@contextmanager
def _tolerated(site: Site, file: FileRecord) -> Iterator[None]:
    """Parts that nobody names any more may stay for a while: they go with the file, or at its end."""
    try:
        yield
    except FilesUnavailable as error:
        _log.warning("parts of a file stay", site=site.name, file=file.id, reason=str(error))


async def _take(body: UploadBody, writer: PartWriter, most: int, checksum: Checksum | None, taken: _Taken) -> None:
    """Writes the bytes of a body, up to `most`. With a checksum either all of them count, or none."""
    digest = None if checksum is None else new_hash(checksum.algorithm)
    while (taken.count < most or digest is not None) and (data := await body.next()):
        if digest is not None and taken.count + len(data) > most:
            raise RequestRefused(f"Upload-Checksum: expected a body of at most {most} bytes.", "too_long", 413)
        data = data[: most - taken.count]
        if digest is not None:
            digest.update(data)
        await writer.write(data)
        taken.count += len(data)
    if digest is not None and checksum is not None:
        if body.end is not BodyEnd.WHOLE:
            taken.count = 0
        else:
            taken.is_right = digest.digest() == checksum.digest


def _unchanged(file: FileRecord, body: UploadBody) -> FileRecord:
    """The file after a request that brought nothing. Raises RequestRefused when the time has passed."""
    if body.end is BodyEnd.SLOW:
        refused[BODY_TOO_SLOW] += 1
        raise RequestRefused("Body: expected bytes in time.", "too_slow", 408)
    return file
