"""The ids of sessions and connections."""

import re

from app.socketio.session_ids import SessionIds


def test_ids_differ() -> None:
    """Each id comes once, also from two supplies, and has as many characters as one of the reference server."""
    supplies = (SessionIds(), SessionIds())
    ids = [supply.next_id() for supply in supplies for _ in range(1_000)]
    assert len(set(ids)) == 2_000
    assert all(re.fullmatch(r"[\w-]{20}", id) for id in ids)
