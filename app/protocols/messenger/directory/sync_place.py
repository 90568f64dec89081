"""The cursor of `sync`: how far a client has come with the reference data and with messages. Plain code.

<reference>~<messages>         behind `~` stands the cursor of messages and receipts, or nothing

<known>                        between two rounds: everything up to this number of the site's clock is known
<known>.<until>.<kind>.<behind>   reference data that has changed behind `known`: this kind, behind this id
<known>m                       the reference data is known, messages follow
"""

from msgspec import Struct

from app.protocols.messenger.answers import ChatRefusal

#: The kinds of reference data, in their order.
KINDS = ("users", "rooms", "contacts", "devices", "applications", "online")
_WORDS = 4
#: No number of a cursor has more: databases have no whole number of 19 nines.
_DIGITS = 18


class ReferencePlace(Struct, frozen=True):
    """How far the reference data has come."""

    known: int
    until: int = 0
    #: "" between two rounds.
    kind: str = ""
    behind: int = 0

    @property
    def is_between(self) -> bool:
        """Whether no round is under way."""
        return not self.kind


class SyncCursor(Struct, frozen=True):
    """A cursor, taken apart."""

    reference: ReferencePlace
    #: Whether the round has come to its messages.
    in_messages: bool = False
    #: None: no message is known.
    messages: str | None = None

    @property
    def text(self) -> str:
        """The cursor as clients keep it."""
        place = self.reference
        words = str(place.known) + ("m" if self.in_messages else "")
        if not place.is_between:
            words = f"{place.known}.{place.until}.{place.kind}.{place.behind}"
        return f"{words}~{self.messages or ''}"

    @property
    def is_new(self) -> bool:
        """Whether a round begins here."""
        return self.reference.is_between and not self.in_messages


def read_cursor(text: str | None) -> SyncCursor:
    """The cursor of an earlier answer; None: the client knows nothing. Raises ChatRefusal."""
    if text is None:
        return SyncCursor(ReferencePlace(0))
    place, tilde, messages = text.partition("~")
    words = place.removesuffix("m").split(".")
    numbers = [int(word) for word in words[:2] + words[3:] if is_number(word)]
    if tilde and len(words) == len(numbers) == 1:
        return SyncCursor(ReferencePlace(numbers[0]), place.endswith("m"), messages or None)
    if tilde and len(words) == _WORDS == len(numbers) + 1 and words[2] in KINDS and not place.endswith("m"):
        known, until, behind = numbers
        return SyncCursor(ReferencePlace(known, until, words[2], behind), False, messages or None)
    raise ChatRefusal("bad_request", "cursor: expected the cursor of an earlier answer, or null.")


def is_number(word: str) -> bool:
    """Whether a word of a cursor is a number."""
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS
