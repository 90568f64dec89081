"""One change of the directory under way: its transaction, who makes it, and what others are to be told."""

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.directory.news import ChatNews
from app.protocols.messenger.directory.rules import ChatDoer


class DirectoryEdit(Struct, frozen=True):
    """One change of the directory. Lives as long as its transaction."""

    sql: AsyncConnection
    site_id: int
    doer: ChatDoer
    #: Whether a user sees those alone that share a room or a contact with it.
    by_rooms: bool
    news: ChatNews
    #: The room whose members decide on registrations.
    registration_room: int | None = None

    @property
    def place(self) -> tuple[AsyncConnection, int]:
        """The transaction and the site's id."""
        return self.sql, self.site_id

    @property
    def me(self) -> int:
        """The user that makes the change, where only users can."""
        assert self.doer.user_id is not None, "the change is one of a user"
        return self.doer.user_id
