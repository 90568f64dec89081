"""The absence of SQL, as files tell of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.files.ports import FilesUnavailable


@contextmanager
def answered() -> Iterator[None]:
    """Turns the absence of SQL into that of the files."""
    try:
        yield
    except ChatUnavailable as error:
        raise FilesUnavailable("SQL does not answer.") from error
