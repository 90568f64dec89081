"""The measurement of synchronisations of one connection: from the first `sync` to `synced`. Plain code."""

from msgspec import Struct


class SyncMeasured(Struct, frozen=True):
    """A synchronisation that is over."""

    ms: int
    bytes: int
    #: Whether the client had a cursor.
    is_resumed: bool


class SyncMeasure:
    """Lives as long as its connection."""

    def __init__(self) -> None:
        self._began_at = 0
        self._ended_at = 0
        self._bytes = 0
        self._is_resumed = False
        #: The first synchronisation of the connection, once its last part was sent.
        self.first_ms: int | None = None
        self._is_first_closed = False

    def begin(self, now: int, *, is_resumed: bool) -> None:
        """A round begins; where the last one was not closed, it goes on."""
        if not self._began_at:
            self._began_at, self._bytes, self._is_resumed = now, 0, is_resumed
        self._ended_at = 0

    def note(self, size: int, now: int, *, is_last: bool) -> None:
        """A part of so many bytes was sent."""
        self._bytes += size
        if is_last and self._began_at:
            self._ended_at = now
            if self.first_ms is None:
                self.first_ms = now - self._began_at

    def end(self, now: int | None) -> SyncMeasured | None:
        """The client has everything; None: nobody knows whether it does. Answers nothing where no last part was
        sent."""
        if not (self._began_at and self._ended_at):
            return None
        ms = (now or self._ended_at) - self._began_at
        if not self._is_first_closed:
            self.first_ms, self._is_first_closed = ms, True
        self._began_at = 0
        return SyncMeasured(ms, self._bytes, self._is_resumed)
