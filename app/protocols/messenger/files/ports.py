"""The ports of files: who asks, who may read, and the place where the bytes are. Knows no HTTP and no SQL."""

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site
from app.errors import RecadoError


class FilesUnavailable(RecadoError):
    """The storage of files does not answer, try again."""


class FilesFull(FilesUnavailable):
    """The storage of files is full."""


class FileUser(Struct, frozen=True):
    """The user behind a request, with the device and the application of the session. Lives as long as the request."""

    id: int
    #: The user room.
    room: str
    device: str | None = None
    app: str | None = None


class SessionCheck(Protocol):
    """The sessions of users. Lives as long as the node."""

    async def user_of(self, site: Site, token: str) -> FileUser | None:
        """The user of a session that is valid now and may do everything that users may; None: there is none. The token
        is any text. Raises FilesUnavailable."""


class FileRights(Protocol):
    """The conversations that files were sent to. Lives as long as the node."""

    async def may_read(self, site: Site, user: int, file: str) -> bool:
        """Whether the user sees a message with this file now. The owner is not asked about. Raises FilesUnavailable."""


class PartWriter(Protocol):
    """One part of a file while it is written. Ends with `finish` or `abandon`, whichever is called first."""

    async def write(self, data: bytes) -> None:
        """Appends bytes. Raises FilesUnavailable, FilesFull."""

    async def finish(self) -> str:
        """The name of the part, whose bytes are durable by then, on every node that reads. Raises FilesUnavailable,
        FilesFull; then nothing is left of the part, or only bytes that `keep_only` deletes."""

    async def abandon(self) -> None:
        """Deletes what was written, as far as possible. Raises nothing."""


class PartStore(Protocol):
    """The bytes of files in parts. No part ever changes. Lives as long as the node."""

    async def begin(self, owner: str, place: str, most_bytes: int) -> PartWriter:
        """Begins a part of at most so many bytes below a place, such as `<site's id>/<file's id>`. `owner` is the site,
        which has a share of the work. May wait for its turn. Raises FilesUnavailable."""

    async def read(self, owner: str, part: str, start: int, count: int) -> bytes:
        """These bytes of a part; `count` is at most PIECE_BYTES. Raises FilesUnavailable, also when the part is shorter
        or gone."""

    async def drop(self, owner: str, parts: Collection[str]) -> None:
        """Deletes these parts. A repetition is harmless. Raises FilesUnavailable."""

    async def keep_only(self, owner: str, place: str, parts: Collection[str]) -> None:
        """Deletes all parts below a place but these. A repetition is harmless. Raises FilesUnavailable."""


#: The most bytes that one read brings into memory.
PIECE_BYTES = 262_144
