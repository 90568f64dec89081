"""The HTTP side of files: tus 1.0 for uploads, GET for downloads. Bare ASGI.

    OPTIONS /<site>/files/          the abilities of the server
    POST    /<site>/files/          begins an upload, perhaps with its first bytes
    HEAD, PATCH, DELETE <upload>    the offset, more bytes, the removal; for the user who uploads
    GET, HEAD <file>                the bytes, for those who may read; HEAD without Tus-Resumable
    POST    <file>                  the time that the client has measured

Here the head of a request is read and its refusal told; everything else is decided elsewhere.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta, Struct

from app.clock import now_ms
from app.config.settings import Site
from app.errors import BadRequest, LimitReached, RequestRefused, StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.http_request import Receive, Scope, Send, query_of, read_body, segments_of
from app.protocols.messenger.files.answers import (
    Answer,
    Sharing,
    etag_of,
    file_headers,
    options_headers,
    refusal_answer,
    send_answer,
    send_head,
    sharing_of,
    tus_headers,
)
from app.protocols.messenger.files.body import UploadBody
from app.protocols.messenger.files.downloads import Downloads
from app.protocols.messenger.files.figures import FilesCounts
from app.protocols.messenger.files.links import file_path, user_of_link
from app.protocols.messenger.files.ports import FilesFull, FilesUnavailable, FileUser, SessionCheck
from app.protocols.messenger.files.ranges import select_bytes
from app.protocols.messenger.files.records import FileRecord
from app.protocols.messenger.files.turns import FileTurns
from app.protocols.messenger.files.tus_headers import (
    OFFSET_TYPE,
    check_version,
    read_checksum,
    read_new_file,
    read_number,
)
from app.protocols.messenger.files.uploads import UploadBounds, Uploads
from app.transport.refusals import FOREIGN_ORIGIN, refused
from app.transport.request_body import BODY_TIMEOUT_SECONDS
from app.transport.streaming import EXTENSION, AnswerWatch

_FILE = re.compile(r"[0-9a-f]{32}")
#: The longest body with the time of a client.
MAX_TIME_BYTES = 256
#: The methods that a POST may stand for: those that old clients and proxies do not know.
_OVERRIDDEN = (b"PATCH", b"DELETE")

_log = structlog.get_logger(__name__)


class ClientTime(Struct, frozen=True, forbid_unknown_fields=True):
    """The time that a client has measured. Lives as long as the request."""

    direction: Literal["upload", "download"]
    ms: Annotated[int, Meta(ge=0, le=2_000_000_000)]


class FileSites(Struct, frozen=True):
    """The sites of a node, as files see them. Lives as long as the node."""

    sites: Mapping[str, Site]
    #: The bounds of a site; None: it has no files.
    bounds_of: Callable[[Site], UploadBounds | None]
    #: The secret that signs the links of a site. Raises FilesUnavailable.
    secret_of: Callable[[Site], Awaitable[bytes]]
    #: The room of a user in the core. Raises StoreError.
    room_of: Callable[[Site, int], Awaitable[str]]


class _FileRequest(Struct):
    """One request whose head was read. Lives as long as the request."""

    site: Site
    bounds: UploadBounds
    method: str
    #: None: the path of all files.
    file: str | None
    headers: dict[bytes, bytes]
    query: dict[str, str]
    receive: Receive
    send: Send
    watch: AnswerWatch
    sharing: Sharing

    @property
    def known_file(self) -> str:
        """The file of the path. Raises RequestRefused."""
        if self.file is None:
            raise RequestRefused(f"Expected {file_path(self.site.name, '<id>')}.", "bad_method", 405)
        return self.file


class FileEndpoint:
    """Lives as long as the node, and keeps no state of a request."""

    def __init__(
        self, facts: FileSites, sessions: SessionCheck, uploads: Uploads, downloads: Downloads, counts: Counts
    ) -> None:
        self._facts = facts
        self._sessions = sessions
        self._uploads = uploads
        self._downloads = downloads
        self._counts = counts
        self._turns = FileTurns()
        self._away = CountedLines(_log, "error", "files not available")

    def serves(self, site: str) -> bool:
        """Whether a site has files."""
        found = self._facts.sites.get(site)
        return found is not None and self._facts.bounds_of(found) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request to a site that has files."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        segments = segments_of(scope)
        site = self._facts.sites.get(segments[0])
        sharing = sharing_of(site, headers)
        try:
            request = self._read(site, scope, headers, segments, (receive, send), sharing)
            if request.method == "OPTIONS":
                answer: Answer | None = Answer(204, options_headers(request.bounds.max_bytes))
            else:
                with self._turns.of_site(request.site.name):
                    answer = await self._handle(request)
        except RequestRefused as refusal:
            answer = refusal_answer(refusal)
        except (BadRequest, LimitReached) as refusal:
            answer = refusal_answer(RequestRefused(str(refusal), "bad_request", refusal.status))
        except (FilesUnavailable, StoreError) as error:
            answer = self._unavailable(site, error)
        status = 200 if answer is None else answer.status
        if site is not None:
            self._counts.of(site.name).part(FilesCounts).requests[str(status)] += 1
        if answer is not None:
            if scope["method"] == "HEAD":
                answer = msgspec.structs.replace(answer, body=b"")
            await send_answer(send, answer, sharing, is_preflight=scope["method"] == "OPTIONS")

    def _read(
        self,
        site: Site | None,
        scope: Scope,
        headers: dict[bytes, bytes],
        segments: list[str],
        way: tuple[Receive, Send],
        sharing: Sharing,
    ) -> _FileRequest:
        bounds = None if site is None else self._facts.bounds_of(site)
        file = segments[2] if len(segments) > 2 else None
        if site is None or bounds is None or len(segments) > 3 or (file is not None and not _FILE.fullmatch(file)):
            raise RequestRefused("There is no such file.", "unknown_file", 404)
        if b"origin" in headers and sharing.origin is None:
            refused[FOREIGN_ORIGIN] += 1
            raise RequestRefused("Origin: expected one of the site's origins.", "foreign_origin", 403)
        method = scope["method"]
        if (other := headers.get(b"x-http-method-override")) in _OVERRIDDEN and method == "POST":
            method = other.decode()
        watch: AnswerWatch = scope["extensions"][EXTENSION]
        return _FileRequest(site, bounds, method, file, headers, query_of(scope), *way, watch, sharing)

    async def _handle(self, request: _FileRequest) -> Answer | None:
        """The answer; None: it was sent piece by piece."""
        user = await self._user_of(request)
        with self._turns.of_user(request.site.name, user.id):
            match request.method:
                case "GET":
                    return await self._download(request, user)
                case "HEAD" if b"tus-resumable" not in request.headers:
                    return await self._download(request, user)
                case "POST" if request.file is not None:
                    return await self._note_time(request, user)
                case "POST" | "HEAD" | "PATCH" | "DELETE":
                    check_version(request.headers)
                    return await self._tus(request, user)
                case _:
                    raise RequestRefused("Expected OPTIONS, GET, HEAD, POST, PATCH or DELETE.", "bad_method", 405)

    async def _tus(self, request: _FileRequest, user: FileUser) -> Answer:
        match request.method:
            case "POST":
                return await self._create(request, user)
            case "HEAD":
                return await self._tell(request, user)
            case "PATCH":
                return await self._append(request, user)
            case _:
                await self._uploads.terminate(request.site, user, request.known_file)
                return Answer(204, tus_headers())

    async def _user_of(self, request: _FileRequest) -> FileUser:
        link = request.query.get("link")
        if link is not None and request.file is not None and request.method in ("GET", "HEAD"):
            secret = await self._facts.secret_of(request.site)
            user = user_of_link(secret, request.site.name, request.file, link, now_ms())
            if user is None:
                raise RequestRefused("link: it is over, or for another file.", "bad_link", 401)
            return FileUser(user, await self._facts.room_of(request.site, user))
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        user_of_session = None
        if scheme.lower() == b"bearer" and token:
            user_of_session = await self._sessions.user_of(request.site, token.strip().decode("latin-1"))
        if user_of_session is None:
            raise RequestRefused("Authorization: expected Bearer and a session.", "not_logged_in", 401)
        return user_of_session

    # Uploads

    async def _create(self, request: _FileRequest, user: FileUser) -> Answer:
        new = read_new_file(request.headers)
        has_bytes = request.headers.get(b"content-type", b"").strip().lower() == OFFSET_TYPE
        if has_bytes:
            self._check_length(request, new.size)
        file = await self._uploads.create(request.site, user, new, request.bounds)
        if has_bytes:
            file = await self._take(request, user, file)
        location = (b"location", file_path(request.site.name, file.id).encode())
        return Answer(201, [*tus_headers(file), location])

    async def _tell(self, request: _FileRequest, user: FileUser) -> Answer:
        file = await self._uploads.find(request.site, user, request.known_file)
        await self._uploads.note_resumed(request.site, file)
        more = [(b"upload-length", str(file.size).encode())]
        if file.metadata:
            more.append((b"upload-metadata", file.metadata.encode("latin-1")))
        return Answer(200, [*tus_headers(file), *more])

    async def _append(self, request: _FileRequest, user: FileUser) -> Answer:
        if request.headers.get(b"content-type", b"").strip().lower() != OFFSET_TYPE:
            raise RequestRefused(f"Content-Type: expected {OFFSET_TYPE.decode()}.", "bad_request", 415)
        offset = read_number(request.headers, b"upload-offset", "Upload-Offset")
        file = await self._uploads.find(request.site, user, request.known_file)
        if offset != file.received:
            raise RequestRefused(f"Upload-Offset: expected {file.received}.", "wrong_offset", 409)
        self._check_length(request, file.left)
        return Answer(204, tus_headers(await self._take(request, user, file)))

    def _check_length(self, request: _FileRequest, most: int) -> None:
        """Refuses a body that is longer than what is missing of its file."""
        length = request.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > most:
            raise RequestRefused(f"Content-Length: expected at most {most} bytes, which are missing.", "too_long", 413)

    async def _take(self, request: _FileRequest, user: FileUser, file: FileRecord) -> FileRecord:
        checksum = read_checksum(request.headers)
        if not file.left:
            return file
        body = UploadBody(request.receive, BODY_TIMEOUT_SECONDS)
        more = await self._uploads.append(request.site, user, file, body, checksum, request.bounds.part_bytes)
        self._counts.of(request.site.name).part(FilesCounts).bytes["upload"] += more.received - file.received
        return more

    # Downloads

    async def _download(self, request: _FileRequest, user: FileUser) -> Answer | None:
        file = await self._downloads.find(request.site, user.id, request.known_file)
        chosen = select_bytes(request.headers, etag_of(file), file.size)
        if chosen.status not in (200, 206):
            return Answer(chosen.status, file_headers(file, chosen))
        headers = [*file_headers(file, chosen), *request.sharing.headers()]
        await send_head(request.send, chosen.status, chosen.span.length, headers)
        if request.method == "HEAD":
            await request.send({"type": "http.response.body", "body": b""})
            return None
        sent = await self._downloads.send(request.site, user, file, chosen.span, (request.send, request.watch))
        self._counts.of(request.site.name).part(FilesCounts).bytes["download"] += sent
        return None

    async def _note_time(self, request: _FileRequest, user: FileUser) -> Answer:
        body = await read_body(request.headers, request.receive, MAX_TIME_BYTES)
        try:
            told = msgspec.json.decode(body, type=ClientTime)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise RequestRefused(
                'Body: expected {"direction": "upload" or "download", "ms": ...}.', "bad_request"
            ) from None
        if not await self._downloads.note_time(request.site, user, request.known_file, told.direction, told.ms):
            raise RequestRefused("There is no such transfer of the last day.", "unknown_file", 404)
        return Answer(204)

    def _unavailable(self, site: Site | None, error: Exception) -> Answer:
        self._away.tell(site=site.name if site else None, reason=str(error))
        if isinstance(error, FilesFull):
            return refusal_answer(RequestRefused("The storage of files is full.", "full", 507))
        return refusal_answer(RequestRefused("The files do not answer, try again.", "unavailable", 503))
