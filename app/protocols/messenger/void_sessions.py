"""The end of connections whose session has ended early, on whatever node that was decided, or by a command."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from app.config.settings import Site
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.attendance import Attendance
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.entrance import SESSION_VOID
from app.protocols.messenger.login_ports import AccountStore
from app.watched_tasks import start_watched

#: Each node looks so often, with one question a site.
LOOK_SECONDS = 1.0
#: A connection is open this long after its session was checked.
_WATCHED_SECONDS = 30.0


class VoidSessions:
    """The watch of one node. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(
        self, accounts: AccountStore, attendance: Attendance[Chatter], sites: Callable[[], Iterable[Site]]
    ) -> None:
        """`sites` are those with a messenger."""
        self._accounts = accounts
        self._attendance = attendance
        self._sites = sites
        #: The last number that was looked at, by site.
        self._seen: dict[str, int] = {}
        #: The users of a site of whom sessions have ended lately, with the time until which their connections are
        #: looked at: one may have been opened meanwhile.
        self._watched: dict[str, dict[int, float]] = {}
        #: The times at which every connection of a site is looked at.
        self._whole_looks: dict[str, list[float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look. Idempotent."""
        if self._task is None:
            self._task = start_watched(self._keep_looking(), "void sessions")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self, site: Site) -> None:
        """Closes the connections of a site whose sessions have ended. Raises ChatUnavailable."""
        now, name = monotonic(), site.name
        if name not in self._seen:
            # Ends before this look may concern a connection that is open already, or about to be.
            self._seen[name] = await self._accounts.newest_void(site)
            self._whole_looks[name] = [now, now + _WATCHED_SECONDS]
        watched = self._watched.setdefault(name, {})
        while ended := await self._accounts.voided_after(site, self._seen[name]):
            watched.update((user_id, now + _WATCHED_SECONDS) for user_id, _ in ended)
            self._seen[name] = ended[-1][1]
        if self._whole_looks[name] and self._whole_looks[name][0] <= now:
            await self._close_void(site, list(self._attendance.of_site(name)))
            del self._whole_looks[name][0]
        else:
            await self._close_void(
                site, [one for user_id in watched for one in self._attendance.of_user(name, user_id)]
            )
        for user_id in [user_id for user_id, until in watched.items() if until <= now]:
            del watched[user_id]

    async def _close_void(self, site: Site, present: Sequence[Chatter]) -> None:
        living = await self._accounts.living(site, [one.caller.session for one in present]) if present else set()
        for one in present:
            if one.caller.session not in living:
                one.close(SESSION_VOID)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for site in list(self._sites()):
                try:
                    await self.look(site)
                except ChatUnavailable:
                    continue
