"""Has messages in flight land, so that a test finds every message in the queues of its devices."""

from __future__ import annotations

from typing import Any

from app.redis.scripts import load_scripts
from app.store.keys import prefix


def land(client: Any, site: str) -> None:
    """The site's messages in flight at this moment are in the queues after it."""
    client.eval(load_scripts()["land"].text, 1, prefix(site))
