"""Presence: who is online, and who is told. A user is away when no node has had a connection of it for some seconds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.errors import StoreError
from app.observe.counted_lines import CountedLines
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.directory.calls import UserCalls
from app.protocols.messenger.directory.ports import OnlineStore
from app.protocols.messenger.settings import Messenger
from app.watched_tasks import start_watched

#: Users of one site whose changes are told at a time.
_AT_A_TIME = 500
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Present(Protocol):
    """A connection of a user."""

    @property
    def caller(self) -> ChatCaller:
        """Its client."""


class PresenceViewers(Protocol):
    """The users that see each other. Raises ChatUnavailable."""

    async def viewers(self, site: Site, users: Sequence[int]) -> dict[int, tuple[frozenset[int] | None, set[int]]]:
        """For each of the users those who see it (None: all), and those to whom it is never told."""


class ChatPresence:
    """The presence of users, as one node tells of it. Lives as long as the node: `start` and `close`."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        online: OnlineStore,
        viewers: PresenceViewers,
        calls: UserCalls,
        is_here: Callable[[str, int], bool],
    ) -> None:
        """`is_here` answers whether a user has a connection on this node."""
        self._sites = sites
        self._online = online
        self._viewers = viewers
        self._calls = calls
        self._is_here = is_here
        #: The users whose connections have come or gone here, by site.
        self._moved: dict[str, dict[int, None]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = CountedLines(_log, "warning", "presence not told")

    def start(self) -> None:
        """Begins to tell."""
        if self._task is None:
            self._task = start_watched(self._run(), "messenger presence")

    async def close(self) -> None:
        """Ends it; the users of this node are away once its burial is over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def joined(self, present: Present) -> None:
        """A user has connected."""
        self._move(present.caller.site.name, present.caller.me.id)

    def left(self, present: Present) -> None:
        """A connection of a user has ended; others come back within some seconds."""
        caller = present.caller
        away_seconds = caller.site.require_section(Messenger).away_seconds
        if not self._is_here(caller.site.name, caller.me.id):
            asyncio.get_running_loop().call_later(away_seconds, self._move, caller.site.name, caller.me.id)

    def restore(self, site: str, users: Sequence[int]) -> None:
        """Redis may have lost these users of this node."""
        for user in users:
            self._move(site, user)

    async def bury(self, site: Site, node: str) -> None:
        """A node has ended, and its connections with it. Raises StoreUnavailable. See `Node.burials`."""
        if site.section(Messenger) is not None:
            try:
                await self._tell(site, "away", await self._online.sweep(site))
            except ChatRefusal as error:
                # SQL is away: clients see it at their next `sync`.
                self._failed.tell(site=site.name, shown={"reason": str(error)})

    def _move(self, site: str, user: int) -> None:
        self._moved.setdefault(site, {})[user] = None
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name in list(self._moved):
                try:
                    await self._tell_of(name)
                except (StoreError, ChatRefusal) as error:
                    self._failed.tell(site=name, shown={"reason": str(error)})
                    asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)

    async def _tell_of(self, name: str) -> None:
        site = self._sites.get(name)
        if site is None or site.section(Messenger) is None:
            self._moved.pop(name, None)
            return
        while moved := self._moved.get(name):
            users = list(moved)[:_AT_A_TIME]
            here = [user for user in users if self._is_here(name, user)]
            away = [user for user in users if user not in set(here)]
            for user in users:
                del moved[user]
            try:
                await self._tell(site, "online", await self._online.come(site, here, now_ms()))
                await self._tell(site, "away", await self._online.leave(site, away))
            except (StoreError, ChatRefusal):
                # Once more, with what is true then.
                moved.update(dict.fromkeys(users))
                raise
        self._moved.pop(name, None)

    async def _tell(self, site: Site, state: str, users: Sequence[int]) -> None:
        if not users:
            return
        at = now_ms()
        for user, (viewers, never) in (await self._viewers.viewers(site, users)).items():
            data = {"user": user, "state": state, "at": at}
            await self._calls.tell(site, viewers, "presence", data, {*never, user})
