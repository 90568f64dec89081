"""Messages and deliveries as answers show them. Pure: values in, JSON values out."""

from typing import Any

import msgspec

from app.clock import rfc3339
from app.config.settings import Site
from app.protocols.receipts.ports import DeviceFacts, WaitingMessage
from app.protocols.receipts.words import away_text, waiting_reason


def waiting_message(site: Site, message: WaitingMessage) -> dict[str, Any]:
    """A message of which only the queues tell: whatever is over is not known."""
    return {
        "id": None if message.id is None else str(message.id),
        "site": site.name,
        "event": message.event,
        "rooms": message.rooms,
        "bytes": message.bytes,
        "accepted_at": rfc3339(message.accepted_ms),
        "options": message.options,
        "summary": {"waiting": message.waiting},
        "partial": True,
    }


def waiting_device(site: Site, message: WaitingMessage, device: DeviceFacts) -> dict[str, Any]:
    """A device that has a message in its queue, as far as the queues tell."""
    # It may have been written to a connection that has ended; of those that last only their nodes know.
    was_written = device.written_seq >= message.seq
    reason = waiting_reason(site, device, 0, is_known_unwritten=False)
    return {
        "user": device.user,
        "device": device.device,
        "state": "written" if was_written else "waiting",
        "written_at": None,
        "acked_at": None,
        "reason": away_text(site, device) if not device.nodes else reason,
    }


def raw_body(body: str | None) -> msgspec.Raw | None:
    """A kept body, `["event", ...]`, as a part of an answer; None for text that is no JSON."""
    if body is None:
        return None
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(body.encode("utf-8", "replace"))
