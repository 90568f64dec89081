"""One change of the directory under way: its transaction, who makes it, and what others are to be told."""

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.news import ChatNews
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.journal_accounts import user_row
from app.protocols.messenger.journal_changes import Changed, note_change


class DirectoryEdit(Struct, frozen=True):
    """One change of the directory. Lives as long as its transaction."""

    sql: AsyncConnection
    site_id: int
    doer: ChatDoer
    #: Whether a user sees those alone that share a room or a contact with it.
    by_rooms: bool
    news: ChatNews

    @property
    def place(self) -> tuple[AsyncConnection, int]:
        """The transaction and the site's id."""
        return self.sql, self.site_id

    @property
    def me(self) -> int:
        """The user that makes the change, where only users can."""
        assert self.doer.user_id is not None, "the change is one of a user"
        return self.doer.user_id

    async def note(self, changed: Changed) -> None:
        """Writes the change of a row down."""
        await note_change(self.sql, self.site_id, changed, self.doer.by)


async def doer_of(sql: AsyncConnection, site_id: int, user_id: int) -> ChatDoer:
    """A user as one who changes the directory, with the rights of this moment. Raises ChatRefusal for one that is
    disabled."""
    row = await user_row(sql, site_id, user_id)
    if row is None or row.is_disabled:
        raise ChatRefusal("session_void", "The user is disabled.")
    return ChatDoer(f"user:{user_id}", user_id, row.is_admin)
