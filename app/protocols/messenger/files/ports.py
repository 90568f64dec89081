"""The ports of files: who asks, who may read, and the place where the bytes are. Knows no HTTP and no SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from app.config.settings import Site
from app.errors import RecadoError
from app.protocols.messenger.files.records import FileRecord, Progress

#: The columns of a transfer.
Transfer: TypeAlias = Mapping[str, Any]


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


def transfer_of(user: FileUser, file: str, kind: str, node: str, at: int) -> dict[str, Any]:
    """The columns of a transfer that are known at its begin."""
    about = {"user": user.room, "device": user.device, "app": user.app, "node": node}
    return {"at": at, "kind": kind, "file": file, **about}


class SessionCheck(Protocol):
    """The sessions of users. Lives as long as the node."""

    async def user_of(self, site: Site, token: str) -> FileUser | None:
        """The user of a session that is valid now and may do everything that users may; None: there is none. The token
        is any text. Raises FilesUnavailable."""


class FileRights(Protocol):
    """The conversations that files were sent to. Lives as long as the node."""

    async def may_read(self, site: Site, user: int, file: str) -> bool:
        """Whether the user sees a message with this file now. The owner is not asked about. Raises FilesUnavailable."""


class FileRows(Protocol):
    """The rows of files and of transfers. Lives as long as the node.

    A row is the truth of its file: parts whose names it does not have are nobody's. It changes only from the state that
    the caller has seen, so two requests for the same bytes never both count. Every method is one transaction. It raises
    FilesUnavailable while SQL is away: then nothing has happened, or all of it.
    """

    async def add(self, site: Site, file: FileRecord, quota_bytes: int) -> FileRecord:
        """Adds an unfinished file, or a finished one without bytes. Returns it with its place. Raises RequestRefused
        past the bounds of its user."""

    async def find(self, site: Site, file: str) -> FileRecord | None:
        """A file that is not being removed."""

    async def advance(self, site: Site, file: FileRecord, progress: Progress, now_ms: int, transfer: Transfer) -> bool:
        """Notes more bytes of a file, and at its end the transfer. False: another request was faster, or the file is
        gone."""

    async def note_resumed(self, site: Site, file: str) -> None:
        """Notes that a client asked for the offset of an unfinished file: it goes on after a break."""

    async def begin_removal(self, site: Site, file: str, now_ms: int) -> bool:
        """Hides a file for good, unless it was sent. False: it was, or there is none."""

    async def hide_expired(self, site: Site, now_ms: int) -> Sequence[FileRecord]:
        """Hides unfinished files whose time has passed. Returns these, and those whose removal was begun before."""

    async def hide_some(self, site: Site, now_ms: int) -> Sequence[FileRecord]:
        """Hides some files of a site, whatever they are, and returns them. None: it has none."""

    async def forget(self, site: Site, file: str) -> None:
        """Deletes the row of a file whose parts are gone."""

    async def add_transfer(self, site: Site, transfer: Transfer) -> None:
        """Adds the row of a transfer that is over."""

    async def add_client_ms(self, site: Site, transfer: Transfer, client_ms: int) -> bool:
        """Adds the time that a client has measured to its newest transfer like this one: its file, user, device and
        kind. False: there is none of the last day."""


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
