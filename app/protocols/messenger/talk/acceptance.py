"""Group commit: the messages of a site that wait at the same time are accepted by one transaction, in their order.

Each is answered after the commit, with an outcome of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from app.clock import now_ms
from app.config.settings import Site
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.journal_messages import MessageDesk, Post, accept_all
from app.protocols.messenger.talk.ports import WakeRelay
from app.protocols.messenger.talk.wishes import AcceptedMessage
from app.watched_tasks import start_logged

#: The messages of one transaction.
MOST_IN_GROUP = 128


class _Waiting(Struct, frozen=True):
    """A message with the future of its outcome."""

    post: Post
    outcome: asyncio.Future[AcceptedMessage]

    def answer(self, outcome: AcceptedMessage | BaseException) -> None:
        """Ends the wait, unless nobody waits any more."""
        if self.outcome.done():
            return
        if isinstance(outcome, AcceptedMessage):
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(outcome)


class Acceptance:
    """The messages of all sites that wait on this node. Lives as long as the node; `close` ends it."""

    def __init__(self, sql: ChatSql, wake: WakeRelay, desk_of: Callable[[Site], MessageDesk]) -> None:
        self._sql = sql
        self._wake = wake
        self._desk_of = desk_of
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def accept(self, site: Site, post: Post) -> AcceptedMessage:
        """Accepts a message. Its place in the order is taken before the first wait. Raises ChatRefusal and
        ChatUnavailable."""
        one = _Waiting(post, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(site.name, deque()).append(one)
        if site.name not in self._tasks:
            self._tasks[site.name] = start_logged(self._keep_accepting(site), f"messages of {site.name}")
        return await one.outcome

    async def close(self) -> None:
        """Ends it. Messages without an answer are repeated by their clients."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_accepting(self, site: Site) -> None:
        waiting = self._waiting[site.name]
        try:
            while waiting:
                await self._accept_some(site, waiting)
        finally:
            # In the turn that has seen nothing wait: a message of the next one begins again.
            self._tasks.pop(site.name, None)
            self._waiting.pop(site.name, None)
            for one in waiting:
                one.answer(ChatUnavailable())

    async def _accept_some(self, site: Site, waiting: deque[_Waiting]) -> None:
        group: list[_Waiting] = []
        try:
            await self._commit(site, waiting, group)
        except ChatUnavailable as error:
            # Without a connection nobody has been taken yet, and nobody's turn would come.
            _answer_all(group or _taken(waiting, len(waiting)), error)
        except Exception as error:
            # The database refuses a row: that costs its own message alone.
            if len(group) == 1:
                _answer_all(group, error)
            for one in group if len(group) > 1 else ():
                await self._accept_some(site, deque([one]))

    async def _commit(self, site: Site, waiting: deque[_Waiting], group: list[_Waiting]) -> None:
        """Takes a group and answers it after its commit."""
        async with self._sql.writing(site) as (sql, site_id):
            # Now: those that have come while the transaction before was under way are in it.
            group += _taken(waiting, MOST_IN_GROUP)
            posts = [one.post for one in group]
            outcomes = await accept_all(sql, site_id, posts, now_ms(), self._desk_of(site))
        for one, outcome in zip(group, outcomes, strict=True):
            one.answer(outcome)
        self._wake(site)


def _taken(waiting: deque[_Waiting], most: int) -> list[_Waiting]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _answer_all(group: Sequence[_Waiting], error: Exception) -> None:
    for one in group:
        one.answer(error)
