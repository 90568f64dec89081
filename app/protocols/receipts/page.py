"""One page of a list: items as JSON, until there are enough of them or enough bytes."""

import msgspec

from app.protocols.receipts.settings import MAX_PAGE_BYTES


class Page:
    """The items of one answer. Lives until the answer is sent."""

    def __init__(self, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> None:
        self._limit = limit
        self._room_bytes = max_bytes
        #: Each as JSON already.
        self.items: list[msgspec.Raw] = []

    @property
    def is_full(self) -> bool:
        """Whether the next item belongs to the next page."""
        return len(self.items) >= self._limit or self._room_bytes <= 0

    def add(self, item: object) -> None:
        """Adds one item."""
        text = msgspec.json.encode(item)
        self._room_bytes -= len(text)
        self.items.append(msgspec.Raw(text))
