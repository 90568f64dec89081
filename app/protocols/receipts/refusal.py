"""The refusals of a request for receipts, each with its HTTP status and its code for programs."""

from app.errors import RequestRefused


class ReceiptRefused(RequestRefused):
    """The request for receipts is refused."""


def journal_off() -> ReceiptRefused:
    """The refusal of a question about history where there is none."""
    text = "The journal is off: only messages that still wait are known (state=waiting)."
    return ReceiptRefused(text, "journal_off", 501)


def no_queues() -> ReceiptRefused:
    """The refusal of a question about devices where there are none."""
    text = "This site has no devices and no queues: it has no userRoomPrefix."
    return ReceiptRefused(text, "no_queues")


def unknown_message() -> ReceiptRefused:
    """The refusal for a message that this site has not sent, or that is forgotten."""
    return ReceiptRefused("No message of this site has this id.", "unknown_message", 404)


def unknown_device() -> ReceiptRefused:
    """The refusal for a device that this site does not have, or no longer has."""
    return ReceiptRefused("This user has no such device.", "unknown_device", 404)


#: Outcome of a copy -> text, code and status.
_NOT_SENT_AGAIN = {
    "waiting": ("The device has this message in its queue already.", "still_waiting", 409),
    "gone": (
        "Nobody has the content of this message any more. The site's setting `journal.bodies` keeps it.",
        "gone",
        410,
    ),
    "busy": ("A message to very many devices is being stored, try again.", "busy", 503),
    "overflowed": ("The queue of the device ran over and was dropped: the device gets _resync.", "queue_full", 409),
}


def not_sent_again(outcome: str) -> ReceiptRefused | None:
    """The refusal for a copy that was not stored; None: it was."""
    if outcome == "unknown":
        return unknown_device()
    return ReceiptRefused(*_NOT_SENT_AGAIN[outcome]) if outcome in _NOT_SENT_AGAIN else None
