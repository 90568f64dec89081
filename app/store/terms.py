"""The terms of a send, as lua/_terms.lua reads them: its deadline and the limits of its site. And the refusal."""

import math

from app.config.settings import Site
from app.errors import LimitReached

#: Messages of a site with `wait` or `ack_within` that are under way: MOST_WATCHED of lua/_options.lua.
MOST_WATCHED = 10_000


def terms_of(site: Site, deadline: int | str, weight: int = 1) -> int | str:
    """The terms of a send that counts as `weight` of them: the deadline alone for a site without limits."""
    limits = site.limits
    rate, messages, size = limits.sends_per_second, limits.stored_messages, limits.stored_bytes
    if not (rate or messages or size):
        return deadline
    # Nothing is stored for a site without queues.
    quota = f"{messages},{size}" if site.has_queues else "0,0"
    burst = limits.sends_burst or math.ceil(rate)
    return f"{deadline},{rate},{burst},{quota},{weight}"


def limit_reached(site: Site, wait_ms: int, quota: bytes = b"") -> LimitReached:
    """The refusal of a send: for `wait_ms`, or while the site holds as much as its `quota`."""
    if quota == b"watched":
        return LimitReached(f"Too many messages wait for acks: expected at most {MOST_WATCHED}.", "watched_messages")
    if not quota:
        text = f"Too many messages: this site may send {site.limits.sends_per_second:g} a second, try again."
        return LimitReached(text, "sends_per_second", retry_after_seconds=math.ceil(wait_ms / 1000))
    if quota == b"stored_bytes":
        most = f"{site.limits.stored_bytes} bytes"
    else:
        most = f"{site.limits.stored_messages} messages"
    return LimitReached(f"Too much is waiting: this site may store {most} until devices acknowledge.", quota.decode())
