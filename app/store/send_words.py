"""Words of a send for `send.lua`. Plain code."""

from app.core.message import ExceptHandle, Message
from app.core.options import WAIT_SECONDS
from app.redis.link import Word
from app.store.keys import device_field


def once_words(message: Message) -> str:
    """The idempotency of a message as lua/_once.lua reads it."""
    once = message.once
    return "" if once is None else f"{once.key} {once.request} {once.ttl_seconds * 1000}"


def except_word(message: Message) -> Word:
    """The device that does not get a message, as lua/_devices.lua names it, or `=` and its handle; "" for none."""
    if message.but is None:
        return ""
    if isinstance(message.but, ExceptHandle):
        return f"={message.but.handle}"
    return device_field(message.but.user_room, message.but.device_id)


def waiter_words(message: Message, node: str) -> str:
    """The node of a sender that waits for acks, and for how many ms, as lua/_options.lua reads it; "" for none."""
    options = message.options
    return f"{node} {(options.timeout or WAIT_SECONDS) * 1000}" if options.wait else ""
