"""The place of a process among the processes behind one port, and the paths of their sockets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from app.errors import ConfigError
from app.socket_folder import SocketFolder

_MAX_DIRECTORY_BYTES = 90  # the kernel's limit for the path of a unix socket is 107 bytes


class WorkerSlot(Struct, frozen=True):
    """The place of a process among its siblings. Lives as long as the process."""

    #: The folder where all siblings listen for each other.
    directory: str
    number: int = 0
    count: int = 1
    #: Bound sockets on the ports beside the one that all siblings share.
    further_fds: tuple[int, ...] = ()
    #: A bound socket on the port that redirects to https.
    redirect_fd: int | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """All these sockets."""
        return self.further_fds if self.redirect_fd is None else (*self.further_fds, self.redirect_fd)

    def siblings(self) -> list[int]:
        """The numbers of all processes behind the port, as the supervisor wants them now."""
        try:
            return [int(word) for word in Path(workers_file(self.directory)).read_text().split()]
        except (OSError, ValueError):
            return list(range(self.count))

    def socket_of(self, number: int) -> str:
        """Returns the path of the unix socket of the sibling with this number."""
        return f"{self.directory}/{number}.sock"


def workers_file(directory: str) -> str:
    """The path of the file with the numbers of the workers, which the supervisor writes."""
    return f"{directory}/workers"


@contextlib.contextmanager
def socket_directory() -> Iterator[str]:
    """Makes a folder for the sockets that only this user may enter, for the length of a `with`. Raises ConfigError."""
    expected = "TMPDIR: expected a directory to write to, for unix sockets"
    try:
        folder = SocketFolder()
    except OSError as error:
        raise ConfigError(f"{expected} ({error.strerror})") from None
    try:
        if len(bytes(folder.path)) > _MAX_DIRECTORY_BYTES:
            raise ConfigError(f"{expected} (its path is too long)")
        yield str(folder.path)
    finally:
        folder.remove()
