"""The answer of a site's `authUrl`, and the token in its request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from recado_client.errors import BadInput

#: The server refuses more.
MOST_ROOMS = 10_000
MAX_ROOM_BYTES = 1_000


class AuthAnswer(NamedTuple):
    """An answer for the framework at hand."""

    status: int
    headers: dict[str, str]
    body: str


def auth_answer(rooms: Sequence[str | int] | None) -> AuthAnswer:
    """The answer that lets a user in, with these rooms; None refuses the user with 401."""
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if rooms is None:
        return AuthAnswer(401, headers, '{"error": "Authentication failed"}')
    if isinstance(rooms, str) or not isinstance(rooms, Sequence) or len(rooms) > MOST_ROOMS:
        raise BadInput(f"rooms: expected a list of at most {MOST_ROOMS} rooms")
    if not all(map(_is_room, rooms)):
        raise BadInput(f"rooms: expected texts and numbers of at most {MAX_ROOM_BYTES} bytes")
    return AuthAnswer(200, headers, json.dumps(list(rooms)))


def token_in(authorization: str | None) -> str | None:
    """The token behind the scheme of an `Authorization` header; None without one."""
    token = (authorization or "").partition(" ")[2].strip()
    return token or None


def _is_room(room: object) -> bool:
    if isinstance(room, bool) or not isinstance(room, str | int):
        return False
    return len(str(room).encode("utf-8", "replace")) <= MAX_ROOM_BYTES
