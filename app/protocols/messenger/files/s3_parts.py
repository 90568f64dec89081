"""The parts of files in S3: an object for each. Knows nothing of files but the names of their parts.

A part is written as one object: a multipart upload of S3 has parts of 5 MiB or more, more than a request of tus brings,
and it is no object, so nothing could be read, before its end. Credentials, region and endpoint are those of the
environment (`AWS_...`).
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta

from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.errors import ConfigError
from app.protocols.messenger.files.ports import FilesUnavailable

#: The bytes of parts that wait in the memory of a node for their objects, and those of one site.
MOST_PART_BYTES = 134_217_728
MOST_PART_BYTES_OF_SITE = 67_108_864
#: How long a part waits for its turn.
TURN_SECONDS = 10.0
#: How long one question to S3 may take, with its retries.
ANSWER_SECONDS = 25.0
_CONNECT_SECONDS = 5.0
_TOKEN_BYTES = 8
#: Objects that one request deletes.
_OBJECTS_AT_ONCE = 500
_SHOWN_CHARACTERS = 200


class PartMemory:
    """The memory of a node for parts. Lives as long as the node."""

    def __init__(self, most: int = MOST_PART_BYTES, most_of_owner: int = MOST_PART_BYTES_OF_SITE) -> None:
        self._most = most
        self._most_of_owner = most_of_owner
        self._used: Counter[str] = Counter()
        self._freed = asyncio.Condition()

    async def take(self, owner: str, size: int) -> int:
        """Waits for its turn. Returns the bytes to give back. Raises FilesUnavailable."""
        share = min(size, self._most_of_owner)
        try:
            async with asyncio.timeout(TURN_SECONDS), self._freed:
                await self._freed.wait_for(lambda: self._has_room(owner, share))
                self._used[owner] += share
        except TimeoutError:
            raise FilesUnavailable("Too many parts of files are on their way to S3, try again.") from None
        return share

    def _has_room(self, owner: str, share: int) -> bool:
        return self._used[owner] + share <= self._most_of_owner and self._used.total() + share <= self._most

    async def give_back(self, owner: str, share: int) -> None:
        """Frees the bytes for others."""
        async with self._freed:
            self._used[owner] -= share
            if not self._used[owner]:
                del self._used[owner]
            self._freed.notify_all()


class S3Parts:
    """Parts below a prefix of a bucket. Lives as long as the node. Implements `PartStore`."""

    def __init__(self, url: str, memory: PartMemory) -> None:
        """Raises ConfigError."""
        try:
            self._store = S3Store.from_url(
                url,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                    "timeout": timedelta(seconds=ANSWER_SECONDS),
                },
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=ANSWER_SECONDS)},
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(f"files: expected s3://bucket/prefix and AWS_ variables ({_told(error)})") from None
        self._memory = memory

    async def begin(self, owner: str, place: str, most_bytes: int) -> "S3PartWriter":
        """Begins a part below a place, when there is memory for it."""
        share = await self._memory.take(owner, most_bytes)
        return S3PartWriter(
            self._store, f"{place}/{secrets.token_hex(_TOKEN_BYTES)}", _Loan(self._memory, owner, share)
        )

    async def read(self, owner: str, part: str, start: int, count: int) -> bytes:
        """These bytes of a part."""
        async with _asking():
            data = bytes(await self._store.get_range_async(part, start=start, length=count))
        if len(data) != count:
            raise FilesUnavailable("S3: a part is shorter than its row says.")
        return data

    async def drop(self, owner: str, parts: Collection[str]) -> None:
        """Deletes these parts."""
        async with _asking():
            await self._store.delete_async(list(parts))

    async def keep_only(self, owner: str, place: str, parts: Collection[str]) -> None:
        """Deletes all parts below a place but these."""
        async with _asking():
            async for page in self._store.list(f"{place}/", chunk_size=_OBJECTS_AT_ONCE):
                if paths := [found["path"] for found in page if found["path"] not in parts]:
                    await self._store.delete_async(paths)


class _Loan:
    """The memory of one part. Lives until it is given back, which happens once."""

    def __init__(self, memory: PartMemory, owner: str, share: int) -> None:
        self._memory = memory
        self._owner = owner
        self._share = share

    async def end(self) -> None:
        share, self._share = self._share, 0
        if share:
            await self._memory.give_back(self._owner, share)


class S3PartWriter:
    """The bytes of one part until they are an object. Implements `PartWriter`."""

    def __init__(self, store: S3Store, part: str, loan: _Loan) -> None:
        self._store = store
        self._part = part
        self._loan = loan
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        """Keeps bytes in memory."""
        self._data += data

    async def finish(self) -> str:
        """Puts the object, and returns its name."""
        try:
            async with _asking():
                await self._store.put_async(self._part, memoryview(self._data))
        finally:
            await self._forget()
        return self._part

    async def abandon(self) -> None:
        """Forgets the bytes."""
        await self._forget()

    async def _forget(self) -> None:
        self._data = bytearray()
        await self._loan.end()


@contextlib.asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    with _translated():
        async with asyncio.timeout(ANSWER_SECONDS):
            yield


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, TimeoutError) as error:
        raise FilesUnavailable(f"S3: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """The kind of an error and the begin of its text, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN_CHARACTERS]}"
