"""Catch-up: live messages are held, in order, while a page of the past (a queue, a history, a mailbox) is read.

    restart() ──▶ hold() ... ──answer──▶ release(covered)      the held messages behind the page
                     │
                     └──bound passed, or lose()──▶ has_gap     read the past again, from where the last page ends

Every owner treats a gap alike: it reads the past again, and tells its client `_resync` or `missed` where the past does
not hold the messages any more. So nothing is lost silently, and a slow read costs a bounded number of bytes.

Synchronous and without I/O; knows neither what a message is nor where the past is kept.
"""

from typing import Generic, TypeVar

#: The bounds of one buffer are those of one page: the default `batch_limit` in `config/settings.py`. A longer buffer
#: gains nothing, because the messages past the bound can be read as one more page.
MAX_MESSAGES = 1_000
MAX_BYTES = 1_000_000

_T = TypeVar("_T")


def is_within_bounds(messages: int, size: int) -> bool:
    """Whether so many messages, of so many bytes together, may be held."""
    return messages <= MAX_MESSAGES and size <= MAX_BYTES


class CatchUp(Generic[_T]):
    """Lives from the moment its owner asks for a page until the owner is live; otherwise the owner's slot is None."""

    __slots__ = ("_bytes", "_messages", "_numbers", "has_gap")

    #: Whether a message was dropped that no page asked for so far covers for sure.
    has_gap: bool

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The owner asks for a page: the answer covers every message that was heard before the question."""
        self._empty()
        self.has_gap = False

    def hold(self, number: int, size: int, message: _T) -> None:
        """Keeps a live message. `number` is its place in the past, `size` its bytes."""
        if self.has_gap:
            return
        self._numbers.append(number)
        self._messages.append(message)
        self._bytes += size
        if not is_within_bounds(len(self._messages), self._bytes):
            self.lose()

    def lose(self) -> None:
        """Messages are missing among the live ones: drop the held ones, which must not overtake the missing ones."""
        self._empty()
        self.has_gap = True

    def drop(self, number: int) -> None:
        """Drops the message with this number, if it is held."""
        if number in self._numbers:
            place = self._numbers.index(number)
            del self._numbers[place], self._messages[place]

    def release(self, covered: int) -> list[_T]:
        """The held messages with a number greater than `covered`, in the order of their arrival; nothing is held any
        more. The owner must not be live behind a gap."""
        assert not self.has_gap, "behind a gap the owner reads the past again, or tells its client"
        pairs = zip(self._numbers, self._messages, strict=True)
        released = [message for number, message in pairs if number > covered]
        self._empty()
        return released

    def _empty(self) -> None:
        # Two lists and no pairs: each connection of a site may hold messages at once, after an interruption of the bus.
        self._numbers: list[int] = []
        self._messages: list[_T] = []
        self._bytes = 0
