"""Turns of the tests of one run, over all its processes: most tests run in parallel, tests that measure run alone."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


class Turns:
    """A lock that many tests share and one takes alone. Lives as long as the process; a process that dies frees it."""

    def __init__(self, directory: Path) -> None:
        """All processes of the run are given the same directory."""
        self._door = directory / "door"
        self._room = directory / "room"

    @contextlib.contextmanager
    def turn(self, is_alone: bool) -> Iterator[None]:
        """Wait for a shared turn, or for one alone, and keep it while the body runs."""
        with contextlib.ExitStack() as stack:
            # A test that is to run alone keeps the door closed while it waits for the others to leave: they would
            # otherwise take turns for ever.
            with _locked(self._door, fcntl.LOCK_EX):
                stack.enter_context(_locked(self._room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH))
            yield


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield
