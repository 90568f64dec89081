"""Unguessable ids of sessions and connections, drawn from the system's random numbers in packs: a call to the system
for each would cost more than all else about an id."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

# As many characters of base64 as in an id of the reference server.
_ID_BYTES = 15
_ID_CHARACTERS = 20
_IDS_A_PACK = 64


class SessionIds:
    """A supply of ids. Lives as long as its server, in one process: two would give the same ids."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def next_id(self) -> str:
        """Make an unguessable id, each once."""
        if not self._ids:
            pack = urlsafe_b64encode(os.urandom(_ID_BYTES * _IDS_A_PACK)).decode()
            self._ids = [pack[start : start + _ID_CHARACTERS] for start in range(0, len(pack), _ID_CHARACTERS)]
        return self._ids.pop()
