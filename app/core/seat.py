"""The place of one connection among the connections that the limits of its site count."""

from collections.abc import Sequence


class Seat:
    """The place of one connection that its site's limits count; `Limits.disconnect` gives it back."""

    __slots__ = ("names", "site")

    def __init__(self, site: str, names: Sequence[str]) -> None:
        self.site = site
        #: The names under which the connection is counted; none once the seat was given back.
        self.names = names

    def joined_by(self, other: "Seat") -> "Seat":
        """One seat for both, which are given back together."""
        both = Seat(self.site or other.site, [*self.names, *other.names])
        self.names = other.names = ()
        return both


#: The seat of a connection that no limit counts.
NO_SEAT = Seat("", ())
