"""A reader of es-web-notify's frames as a client has it: `''<length>''<json>`, in pieces of any size."""

from __future__ import annotations

import json
from typing import Any

_SEPARATOR = "''"


class FrameReader:
    """Takes text in pieces; lives as long as one response. `events` are the complete ones."""

    def __init__(self) -> None:
        """Start with nothing received."""
        self.events: list[dict[str, Any]] = []
        self.keep_alives = 0
        self._text = ""

    def feed(self, piece: str) -> list[dict[str, Any]]:
        """Take a piece; return the events that it completed."""
        self._text += piece
        before = len(self.events)
        while self._take_frame():
            pass
        return self.events[before:]

    @property
    def rest(self) -> str:
        """The text that is not a whole frame yet."""
        return self._text

    def _take_frame(self) -> bool:
        if not self._text.startswith(_SEPARATOR):
            assert _SEPARATOR.startswith(self._text[:2]), f"no frame begins with {self._text[:20]!r}"
            return False
        length, separator, rest = self._text[len(_SEPARATOR) :].partition(_SEPARATOR)
        if not separator or len(rest) < int(length):
            return False
        text, self._text = rest[: int(length)], rest[int(length) :]
        if text:
            self.events.append(json.loads(text))
        else:
            self.keep_alives += 1
        return True
