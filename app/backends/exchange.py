"""One HTTP exchange with a tenant's backend, whichever library makes it: headers in, an answer or a BackendError out.

Knows nothing of rooms or users, and no HTTP library.
"""

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site
from app.errors import RecadoError

#: The most sockets of one tenant; `auth_concurrency` may be as high. A request beyond it waits within its time-out.
MAX_CONNECTIONS_PER_SITE = 1000
MAX_ANSWER_BYTES = 1_000_000
#: Most backends drop an idle connection after 60 s or more. One that drops it earlier costs a silent second try.
KEEPALIVE_SECONDS = 60.0

#: The modules of errors that hold the system's words and nothing of a request.
_SYSTEM = frozenset(("builtins", "socket", "ssl"))
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

Header = tuple[bytes, bytes]
#: Class of error -> the reason that a client may read. The nearest base class counts.
Reasons = Mapping[type[Exception], str]

#: The errors that every library lets through.
REASONS: Reasons = {
    TimeoutError: "timed out",
    OSError: "connection failed",
    # A host name that IDNA cannot encode. It is found when the name is resolved.
    UnicodeError: "the URL is not usable",
}


class BackendError(RecadoError):
    """A tenant's backend gave no usable answer"""

    def __init__(self, reason: str, cause: str, was_answered: bool = True) -> None:
        super().__init__(reason)
        #: The library's class of error, and the system's words where there are some, for the log.
        self.cause = cause
        #: False when the backend could not be reached, or did not end its answer in time.
        self.was_answered = was_answered


class BackendAnswer(Struct, frozen=True):
    """A backend's answer. `body` is b"" unless the status is 200."""

    status: int
    body: bytes


class BackendPool(Protocol):
    """Connections to the backend of one site. Lives until `close`."""

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """Sends a request and reads its answer; a redirect is an answer. Raises BackendError.

        Has no time-out: the caller cancels it.
        """

    async def close(self) -> None:
        """Closes every connection."""


def reason_of(error: BaseException, reasons: Reasons) -> str:
    """The reason of a library's error that a client may read; raises KeyError for an error not in the table."""
    known = next((base for base in type(error).__mro__ if base in reasons), None)
    if known is None:
        raise KeyError(type(error).__name__)
    return reasons[known]


def cause_of(error: BaseException) -> str:
    """The class of a library's error, with the words of the system behind it: of a refused connection, a name that is
    not found, a certificate. Words of libraries may hold a URL or a token, and are left out."""
    behind: BaseException | None = error
    while behind is not None and not _words_of(behind):
        behind = getattr(behind, "os_error", None) or behind.__cause__ or behind.__context__
    words = _words_of(behind)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _words_of(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.strerror or "" if isinstance(error, OSError) and type(error).__module__ in _SYSTEM else ""


def authorization(site: Site, token: str | None) -> list[Header]:
    """The header that shows a user's token to the site's backend; none without a token. Raises BackendError."""
    return [(b"authorization", header_value(f"{site.auth_scheme} {token}", "token"))] if token else []


def header_value(text: str, name: str) -> bytes:
    """The text as a header carries it, in Latin-1.

    Raises BackendError for text that no header carries; the error has the name of the value, never the value.
    """
    try:
        value = text.encode("latin-1")
    except UnicodeEncodeError:
        value = b"\0"
    if _CONTROL.search(value):
        raise BackendError(f"{name} cannot be sent in an HTTP header", "UnsendableHeader")
    return value


async def read_within_bound(chunks: AsyncIterator[bytes], most: int = MAX_ANSWER_BYTES) -> bytes:
    """The body of an answer. Raises BackendError as soon as it is longer than `most` bytes."""
    body = b""
    async for chunk in chunks:
        body = body + chunk if body else chunk
        if len(body) > most:
            raise BackendError(f"answer longer than {most} bytes", "AnswerTooLong")
    return body
