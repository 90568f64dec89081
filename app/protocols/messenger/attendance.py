"""The users who are connected to this node, by site. No I/O."""

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from app.protocols.messenger.caller import ChatCaller


class Attending(Protocol):
    """A connection whose caller has a user."""

    @property
    def caller(self) -> ChatCaller:
        """Its client."""


_Attending = TypeVar("_Attending", bound=Attending)


class Attendance(Generic[_Attending]):
    """The connections of users on one node. Lives as long as the node."""

    def __init__(self) -> None:
        self._sites: dict[str, dict[int, dict[_Attending, None]]] = {}

    def join(self, chatter: _Attending) -> bool:
        """Adds a connection; whether it is the first of its user here."""
        of_site = self._sites.setdefault(chatter.caller.site.name, {})
        of_user = of_site.setdefault(chatter.caller.me.id, {})
        of_user[chatter] = None
        return len(of_user) == 1

    def has(self, chatter: _Attending) -> bool:
        """Whether the connection was added, and not taken away."""
        user = chatter.caller.user
        return user is not None and chatter in self._sites.get(chatter.caller.site.name, {}).get(user.id, {})

    def leave(self, chatter: _Attending) -> bool:
        """Takes away a connection that was added; whether it was the last of its user here."""
        of_site, user_id = self._sites[chatter.caller.site.name], chatter.caller.me.id
        del of_site[user_id][chatter]
        if of_site[user_id]:
            return False
        del of_site[user_id]
        return True

    def of_user(self, site: str, user_id: int) -> Sequence[_Attending]:
        """The connections of a user."""
        return list(self._sites.get(site, {}).get(user_id, {}))

    def is_here(self, site: str, user_id: int) -> bool:
        """Whether a user has a connection here."""
        return user_id in self._sites.get(site, {})

    def of_site(self, site: str) -> Iterator[_Attending]:
        """The connections of all users of a site."""
        for of_user in list(self._sites.get(site, {}).values()):
            yield from list(of_user)

    def users(self, site: str) -> list[int]:
        """The users who have connections here."""
        return list(self._sites.get(site, {}))

    @property
    def sites(self) -> list[str]:
        """The sites of which users have been here."""
        return list(self._sites)
