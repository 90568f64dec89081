"""A folder for unix sockets that only this user may enter, and the removal of those that dead processes have left.

A process holds a lock on a file of its folder, which the kernel gives back when the process ends in whatever way.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "recado-"
_LOCK = "lock"
#: The folders that one process looks at when it makes its own.
_MOST_LOOKED_AT = 1_000


class SocketFolder:
    """One folder. Lives until `remove`, or as long as the process; the next process then removes what is left of it."""

    def __init__(self) -> None:
        """Makes the folder. Raises OSError where none can be made."""
        _remove_deserted(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Locked before it has its name: nobody takes a folder for deserted that is just being made.
        made = self.path / "new"
        self._lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        made.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Removes the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_deserted(parent: Path) -> None:
    with contextlib.suppress(OSError):
        for folder in itertools.islice(parent.glob(PREFIX + "*"), _MOST_LOOKED_AT):
            if _is_deserted(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_deserted(folder: Path) -> bool:
    """Whether a process of this user has made it and has ended."""
    with contextlib.suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return False
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return True
    return False
