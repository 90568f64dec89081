"""The needs of the directory and of presence: transactions, events to users, the users who are online, the relay."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from app.config.settings import Site
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.rules import ChatDoer

_T = TypeVar("_T")
#: One who changes something: the id of a user, whose rights the transaction reads, or another doer.
Who: TypeAlias = int | ChatDoer


class EditsDirectory(Protocol):
    """Makes changes of the directory."""

    async def change(self, site: Site, who: Who, work: Callable[[DirectoryEdit], Awaitable[_T]]) -> _T:
        """Does the work in one transaction, and tells those who see it once that has committed. Raises ChatRefusal;
        then nothing has changed."""


class UserAnnouncer(Protocol):
    """Tells connected users of something that is kept nowhere."""

    async def tell(self, site: Site, users: Sequence[int], event: str, data: Any) -> None:
        """Sends an event to every connection of these users, on any node. Raises StoreUnavailable."""


class OnlineStore(Protocol):
    """The users of each site who are online, for all nodes. Each method raises StoreUnavailable."""

    async def come(self, site: Site, users: Sequence[int], at: int) -> list[int]:
        """Notes users who have a connection; those who were away until now."""

    async def leave(self, site: Site, users: Sequence[int]) -> list[int]:
        """Takes out those who have no connection in the core, and answers them."""

    async def sweep(self, site: Site) -> list[int]:
        """Does so with all users of the site."""

    async def online(self, site: Site) -> set[int]:
        """The users who are online."""


#: Wakes the relay of a site after a commit.
WakeCore = Callable[[Site], None]
