"""The hidden site of the canaries. No file can name it, and its key is known to the processes of one port alone."""

import secrets
from collections.abc import Mapping

from app.config.settings import CANARY_SITE, QueueLimit, Site

ROOM_PREFIX = "canary_"
#: A node that was killed is buried after 7 s; its device is forgotten this long after.
_DEVICE_TTL_SECONDS = 30
_QUEUE_LIMIT = QueueLimit(messages=100, bytes=100_000)


def new_key() -> str:
    """A key of the hidden site."""
    return secrets.token_hex(32)


def with_canary(sites: Mapping[str, Site], key: str) -> dict[str, Site]:
    """The sites with the hidden one. Its rooms come from no backend, and no page of a browser may join it."""
    hidden = Site(
        name=CANARY_SITE,
        auth_url="",
        api_key=key,
        user_room_prefix=ROOM_PREFIX,
        origins=(),
        device_ttl_seconds=_DEVICE_TTL_SECONDS,
        queue_limit=_QUEUE_LIMIT,
        import_originals=False,
    )
    return {**sites, CANARY_SITE: hidden}
