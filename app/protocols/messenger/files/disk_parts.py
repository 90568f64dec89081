"""The parts of files on the disk of this machine. All work is done in threads, of which each site has a share.

A part is a file that no other knows until its name is in SQL: so it is written in place, and durable before that.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from app.errors import LimitReached
from app.protocols.fair_pool import FairPool, PoolBounds
from app.protocols.messenger.files.ports import PIECE_BYTES, FilesFull, FilesUnavailable
from app.transport.refusals import TOO_MANY_FILE_REQUESTS

#: The threads of a node that read and write files, and those of one site.
DISK_THREADS = 4
DISK_THREADS_OF_SITE = 2
#: The works of one site that wait for a thread.
MOST_DISK_WORK_WAITING = 1_000
_BOUNDS = PoolBounds(
    threads=DISK_THREADS,
    threads_of_owner=DISK_THREADS_OF_SITE,
    waiting_of_owner=MOST_DISK_WORK_WAITING,
    reason=TOO_MANY_FILE_REQUESTS,
    text="Too many requests for files of this site wait on this server, try again.",
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TOKEN_BYTES = 8
#: Every place and every part: no name from outside becomes a path.
_PLACE = re.compile(r"[0-9]+/[0-9a-f]+(/[0-9a-f]+)?")

T = TypeVar("T")


def new_disk_pool() -> FairPool:
    """The threads of a node that read and write files."""
    return FairPool("files", _BOUNDS)


class DiskParts:
    """Parts below a folder of this user alone. Lives as long as the node. Implements `PartStore`."""

    def __init__(self, folder: Path, pool: FairPool) -> None:
        """`pool` is closed by its owner."""
        self._folder = folder
        self._pool = pool

    async def begin(self, owner: str, place: str, most_bytes: int) -> "DiskPartWriter":
        """Begins a part below a place."""
        part = f"{place}/{secrets.token_hex(_TOKEN_BYTES)}"
        file = await self._run(owner, partial(_OpenFile, self._path(part)))
        return DiskPartWriter(part, file, partial(self._run, owner))

    async def read(self, owner: str, part: str, start: int, count: int) -> bytes:
        """These bytes of a part."""
        return await self._run(owner, partial(_read, self._path(part), start, count))

    async def drop(self, owner: str, parts: Collection[str]) -> None:
        """Deletes these parts."""
        await self._run(owner, partial(_drop, [self._path(part) for part in parts]))

    async def keep_only(self, owner: str, place: str, parts: Collection[str]) -> None:
        """Deletes all parts below a place but these."""
        await self._run(owner, partial(_keep_only, self._path(place), {part.rpartition("/")[2] for part in parts}))

    def _path(self, place: str) -> Path:
        assert _PLACE.fullmatch(place), "places are made of numbers"
        return self._folder / place

    async def _run(self, owner: str, work: Callable[[], T]) -> T:
        with _translated():
            return await self._pool.run(owner, work)


class DiskPartWriter:
    """One file while it is written. Implements `PartWriter`."""

    def __init__(self, part: str, file: "_OpenFile", run: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._part = part
        self._file = file
        self._run = run
        self._waiting = bytearray()

    async def write(self, data: bytes) -> None:
        """Appends bytes; they reach the disk in large pieces."""
        self._waiting += data
        if len(self._waiting) >= PIECE_BYTES:
            await self._flush()

    async def finish(self) -> str:
        """The name of the part, whose bytes are on the disk."""
        await self._flush()
        await self._run(self._file.close_durable)
        return self._part

    async def abandon(self) -> None:
        """Deletes the file."""
        with contextlib.suppress(FilesUnavailable):
            await self._run(self._file.abandon)

    async def _flush(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        if data:
            await self._run(partial(self._file.write, data))


class _OpenFile:
    """A file that is being written. Its methods run in threads, one at a time: a caller that was cancelled leaves its
    thread at work."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Lock()
        _make_folder(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor: int | None = os.open(path, flags, 0o600)

    def write(self, data: bytearray) -> None:
        with self._turn:
            if self._descriptor is None:
                raise OSError(errno.EBADF, "the part has ended")
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]

    def close_durable(self) -> None:
        with self._turn:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                raise OSError(errno.EBADF, "the part has ended")
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(self._path.parent)

    def abandon(self) -> None:
        with self._turn:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = FilesFull if error.errno in _FULL else FilesUnavailable
        raise kind(f"The files: {error.strerror or type(error).__name__}.") from error
    except LimitReached as error:
        raise FilesUnavailable(str(error)) from error


# In a thread


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for parent in (folder.parent, folder.parent.parent):
            _sync_folder(parent)


def _read(path: Path, start: int, count: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        data = os.pread(descriptor, count, start)
    finally:
        os.close(descriptor)
    if len(data) != count:
        raise OSError(errno.EIO, "a part is shorter than its row says")
    return data


def _drop(paths: Collection[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _keep_only(folder: Path, names: Collection[str]) -> None:
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return
    _drop([folder / name for name in found if name not in names])
    if not names:
        # A part that begins at this moment keeps its folder.
        with contextlib.suppress(OSError):
            folder.rmdir()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
