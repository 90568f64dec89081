"""The states of a delivery and the reasons for them, as numbers in SQL and as words. Knows no table."""

from enum import IntEnum


class Fate(IntEnum):
    """The fate of a message at one device, from the queue to the last word. From ACKED on it is final."""

    #: In the queue, on no connection yet.
    WAITING = 0
    #: On the wire, without an ack.
    WRITTEN = 1
    ACKED = 2
    #: The time to live of the message, or of the device, was over first.
    EXPIRED = 3
    #: A newer message with the same collapse key took its place.
    REPLACED = 4
    #: Another device of the user has acknowledged it.
    SETTLED = 5
    #: Somebody took it back, or had the device forgotten.
    WITHDRAWN = 6
    #: The queue was dropped, and the device told to fetch everything.
    RESYNCED = 7

    @property
    def word(self) -> str:
        """The state as the API and the streams name it."""
        return self.name.lower()

    @property
    def column(self) -> str:
        """The column of `messages` that counts the deliveries in this state."""
        return f"n_{self.word}"


#: The first state that no later one replaces.
FIRST_FINAL = Fate.ACKED

STATES = {state.word: state for state in Fate}
#: The words of `state` in a stream entry `fate`.
FATES = {state.word: state for state in Fate if state > FIRST_FINAL}

#: The reasons by number; the number stands in SQL, so the order is fixed and new ones go to the end.
REASONS = (
    "",
    "ttl",
    "device_ttl",
    "collapse",
    "settle",
    "withdrawn",
    "device forgotten",
    "queue full",
    "ack out of turn",
    "redis lost data",
    #: A reason that this version does not know.
    "other",
)
REASON_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}
OTHER = REASON_NUMBERS["other"]
QUEUE_FULL = REASON_NUMBERS["queue full"]
LOST_DATA = REASON_NUMBERS["redis lost data"]


def reason_number(reason: str) -> int:
    """The number of a reason; of one that is not listed, that of "other"."""
    return REASON_NUMBERS.get(reason, OTHER)


def reason_text(number: int) -> str:
    """The reason in words; "" for none, and "other" for a number of a later version."""
    return REASONS[number] if 0 <= number < len(REASONS) else REASONS[OTHER]
