"""Which one a process is of those behind one port, and where they find each other's sockets."""

import contextlib
import tempfile
from collections.abc import Iterator

from msgspec import Struct

from app.errors import ConfigError

_MAX_DIRECTORY_BYTES = 90  # 107 are the kernel's limit for the path of a unix socket


class WorkerSlot(Struct, frozen=True):
    """The place of a process among its siblings. Lives as long as the process."""

    #: Where all of them listen for each other.
    directory: str
    number: int = 0
    count: int = 1

    def socket_of(self, number: int) -> str:
        """The path of the unix socket of one of them."""
        return f"{self.directory}/{number}.sock"


@contextlib.contextmanager
def socket_directory() -> Iterator[str]:
    """A folder for their sockets that only this user may enter, for the length of a `with`. Raises ConfigError."""
    expected = "TMPDIR: expected a directory to write to, for unix sockets"
    try:
        made = tempfile.TemporaryDirectory(prefix="recado-")
    except OSError as error:
        raise ConfigError(f"{expected} ({error.strerror})") from None
    with made as directory:
        if len(directory.encode()) > _MAX_DIRECTORY_BYTES:
            raise ConfigError(f"{expected} (its path is too long)")
        yield directory
