"""The words of a send for `send.lua`, and its refusals in the words of callers. Plain code."""

import math

from app.config.settings import Site
from app.core.message import Message
from app.errors import LimitReached
from app.redis.link import Word
from app.surrogates import encode_text

#: Messages of a site with `wait` or `ack_within` that are under way: MOST_WATCHED of lua/_options.lua.
MOST_WATCHED = 10_000


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


def once_words(message: Message) -> str:
    """The idempotency of a message as lua/_once.lua reads it."""
    once = message.once
    return "" if once is None else f"{once.key} {once.request} {once.ttl_seconds * 1000}"


def except_word(message: Message) -> Word:
    """The device that does not get a message, as lua/_devices.lua names it; "" for none."""
    if message.but is None:
        return ""
    user = encode_text(message.but.user_room)
    return b"%d:%b:%b" % (len(user), user, encode_text(message.but.device_id))
