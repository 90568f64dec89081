"""`PresenceViewers` in the journal's database."""

from collections.abc import Sequence

from app.config.settings import Site
from app.protocols.messenger.directory.journal_viewers import blocked_pairs, viewers_of
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger


class JournalViewers:
    """The viewers of users of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def viewers(self, site: Site, users: Sequence[int]) -> dict[int, tuple[frozenset[int] | None, set[int]]]:
        """The users that see these, and those that never hear of them; see `PresenceViewers`."""
        by_rooms = site.require_section(Messenger).contact_list == "rooms"
        async with self._sql.reading(site) as (sql, site_id):
            blocked = await blocked_pairs(sql, site_id, users)
            found = {user: await viewers_of(sql, site_id, user, by_rooms=by_rooms) for user in users}
        return {user: (viewers, blocked.get(user, set())) for user, viewers in found.items()}
