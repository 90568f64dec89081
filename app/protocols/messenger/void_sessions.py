"""The end of connections whose session has ended early, on whatever node that was decided, or by a command."""

import asyncio
from collections.abc import Callable, Iterable
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
        if site.name not in self._seen:
            # Every session was checked when its connection was opened: earlier ends do not matter.
            self._seen[site.name] = await self._accounts.newest_void(site)
        watched = self._watched.setdefault(site.name, {})
        while ended := await self._accounts.voided_after(site, self._seen[site.name]):
            watched.update((user_id, monotonic() + _WATCHED_SECONDS) for user_id, _ in ended)
            self._seen[site.name] = ended[-1][1]
        present = [one for user_id in watched for one in self._attendance.of_user(site.name, user_id)]
        living = await self._accounts.living(site, [one.caller.session for one in present]) if present else set()
        for one in present:
            if one.caller.session not in living:
                one.close(SESSION_VOID)
        now = monotonic()
        for user_id in [user_id for user_id, until in watched.items() if until <= now]:
            del watched[user_id]

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for site in list(self._sites()):
                try:
                    await self.look(site)
                except ChatUnavailable:
                    continue
