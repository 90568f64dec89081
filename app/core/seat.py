"""The place of one connection among the connections that the limits of its site count."""

from collections.abc import Sequence


class Seat:
    """The place of one connection that its site's limits count; `Limits.disconnect` gives it back."""

    __slots__ = ("names", "site")

    def __init__(self, site: str, names: Sequence[str]) -> None:
        self.site = site
        #: The names under which the connection is counted; none once the seat was given back.
        self.names = names


#: The seat of a connection that no limit counts.
NO_SEAT = Seat("", ())
