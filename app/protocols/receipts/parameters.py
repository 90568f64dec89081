"""The query of a request for receipts: each parameter is checked once, where it is read, and unknown ones are refused.

Pure: a query in, values or ReceiptRefused out.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from app.clock import rfc3339
from app.protocols.receipts.cursor import read_cursor, write_cursor
from app.protocols.receipts.refusal import ReceiptRefused
from app.protocols.receipts.settings import DEFAULT_LIMIT, MAX_LIMIT, MAX_NAME_BYTES

#: Parameters of every request: the site and its key.
_EVERYWHERE = frozenset(("site", "apiKey"))
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}
#: The last time that answers can show: the end of the year 9999.
_LAST_MS = 253_402_300_799_999
_MAX_ID = 2**63 - 1
_MAX_ID_DIGITS = 19

T = TypeVar("T")


class Parameters:
    """The query of one request; lives as long as the request. Each method raises ReceiptRefused."""

    def __init__(self, query: Mapping[str, str], key: str, of: str) -> None:
        """`key` is the site's, `of` names the list: both make the signatures of cursors."""
        self._query = query
        self._key = key
        self._of = of

    def allow(self, names: Iterable[str]) -> None:
        """Refuses every parameter but these: a filter with a slip of the pen would answer too much."""
        unknown = self._query.keys() - _EVERYWHERE - set(names)
        if unknown:
            raise ReceiptRefused(f"{min(unknown)[:100]}: expected no such parameter.")

    def text(self, name: str, *, may_be_empty: bool = False) -> str | None:
        """A room, user, device or event; None: not given."""
        value = self._query.get(name)
        if value is None:
            return None
        if len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            raise ReceiptRefused(f"{name}: expected at most {MAX_NAME_BYTES} bytes.")
        if "\0" in value or (not value and not may_be_empty):
            raise ReceiptRefused(f"{name}: expected a text{'' if may_be_empty else ', not empty'}, without a NUL.")
        return value

    def required(self, name: str, *, may_be_empty: bool = False) -> str:
        """The same, which must be given."""
        value = self.text(name, may_be_empty=may_be_empty)
        if value is None:
            raise ReceiptRefused(f"Missing query param '{name}'.")
        return value

    def choice(self, name: str, words: Iterable[str]) -> str | None:
        """One of these words; None: not given."""
        value = self._query.get(name)
        if value is not None and value not in (known := list(words)):
            raise ReceiptRefused(f"{name}: expected one of {', '.join(known)}.")
        return value

    def flag(self, name: str) -> bool:
        """`true` or `false`; not given: false."""
        value = self._query.get(name, "").lower()
        if value not in _FLAGS:
            raise ReceiptRefused(f"{name}: expected true or false.")
        return _FLAGS[value]

    def limit(self) -> int:
        """The most items of the page."""
        value = self._query.get("limit")
        if value is None:
            return DEFAULT_LIMIT
        is_number = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_LIMIT))
        if not is_number or not 1 <= int(value) <= MAX_LIMIT:
            raise ReceiptRefused(f"limit: expected a number from 1 to {MAX_LIMIT}.")
        return int(value)

    def time(self, name: str) -> int | None:
        """A time as ms since the epoch; None: not given."""
        value = self._query.get(name)
        if value is None:
            return None
        try:
            if not _TIME.fullmatch(value):
                raise ValueError
            ms = round(datetime.fromisoformat(value.upper()).timestamp() * 1000)
            return min(max(0, ms), _LAST_MS)
        except (ValueError, OverflowError):
            text = f"{name}: expected a time like {rfc3339(0)}; a + in it is written %2B."
            raise ReceiptRefused(text) from None

    def cursor(self, kind: type[T]) -> T | None:
        """Where the page begins; None: at the start."""
        value = self._query.get("cursor")
        return None if value is None else read_cursor(value, kind, self._key, self._of)

    def next_cursor(self, place: object) -> str | None:
        """The cursor of the next page, which begins at `place`; None: this was the last one."""
        return None if place is None else write_cursor(place, self._key, self._of)


def message_id(text: str) -> int:
    """The id of a message in a path. Raises ReceiptRefused."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS and int(text) <= _MAX_ID):
        raise ReceiptRefused("Expected the id of a message, a decimal number.")
    return int(text)
