"""Messages: what their repr shows, and whom they reach."""

from __future__ import annotations

from app.core.message import LiveMessage, Message
from tests.support.store import make_site


def test_repr_has_no_payload() -> None:
    """A message in a log line or traceback shows its size, and neither its payload nor the site's key."""
    message = Message(make_site(api_key="k-secret"), 7, ["r"], "news", b'["news","private"]')
    live = LiveMessage(9, "7", b'["news","private"]')
    assert repr(message) == "Message('shop', 7, 'news', 18 bytes)"
    assert repr(live) == "LiveMessage(9, 7, 18 bytes)"


def test_live_message_is_for_nobody_by_itself() -> None:
    """Without recipients and rooms a message reaches no one; each message has its own encoded forms."""
    one, other = LiveMessage(1, "1", b""), LiveMessage(2, "2", b"")
    assert (one.recipients, one.resync_recipients, one.rooms) == ((), (), None)
    one.encoded["a"] = 1
    assert other.encoded == {}
