"""Log lines of which strangers decide how many there are: the first at once, then one a second with the number.

Knows no event. Its callers bound the fields: names of sites and reasons, and no text of a stranger.
"""

import asyncio
from typing import Any

WINDOW_SECONDS = 1.0

_Fields = tuple[tuple[str, Any], ...]


class CountedLines:
    """The lines of one event. Lives as long as the node; each of its timers ends with a second without a line."""

    def __init__(self, log: Any, level: str, event: str) -> None:
        """`log` is the module's logger."""
        self._log = log
        self._level = level
        self._event = event
        #: The lines of this second, by what they say, that are not written yet.
        self._waiting: dict[_Fields, int] = {}
        #: The last values of the fields that differ from line to line.
        self._shown: dict[_Fields, dict[str, Any]] = {}

    def tell(self, *, shown: dict[str, Any] | None = None, **fields: Any) -> None:
        """Writes a line, or counts it within a second of the last one that says the same.

        The fields in `shown` do not tell lines apart: a line with a count has those of its last one.
        """
        said = tuple(fields.items())
        if said in self._waiting:
            self._waiting[said] += 1
            self._shown[said] = shown or {}
            return
        self._write(said, shown or {})
        self._begin(said)

    def _begin(self, said: _Fields) -> None:
        self._waiting[said] = 0
        asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._end, said)

    def _end(self, said: _Fields) -> None:
        count, shown = self._waiting.pop(said), self._shown.pop(said, {})
        if count:
            self._write(said, {**shown, "count": count})
            self._begin(said)

    def _write(self, said: _Fields, more: dict[str, Any]) -> None:
        getattr(self._log, self._level)(self._event, **dict(said), **more)
