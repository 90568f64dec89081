"""The beat by which a node shows that it lives, and the burial of nodes that beat no more.

Knows nothing of the data that a dead node leaves: the owner takes them out. The Lua side is `lua/_living.lua`.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from app.errors import StoreError, StoreUnavailable
from app.redis.client import Commands
from app.watched_tasks import start_logged, start_watched

_log = structlog.get_logger(__name__)


class BeatOwner(Protocol):
    """The owner of a beat knows a set of nodes in Redis and the data that each of them has there."""

    async def beat(self) -> None:
        """Notes in Redis that this node lives, and hands the answer to `Beat.answered`. Raises StoreError."""

    def taken_for_dead(self) -> None:
        """Redis had forgotten this node: another node has buried it, or Redis has lost its data."""

    async def bury(self, node: str, last_beat_ms: int) -> None:
        """Takes out the data of a dead node, and last the node itself. Raises StoreError.

        The next beat names the node again if it is still there.
        """


class Beat:
    """The beat of one node in one set of nodes. Lives as long as the node: `start` begins, `close` ends it.

    While Redis is away beats are missed; an error of another kind is logged, and the next beat tries again.
    """

    def __init__(self, redis: Commands, node: str, nodes: str, owner: BeatOwner, **labels: str) -> None:
        """`nodes` is the key of the sorted set of nodes by last beat. `labels` stand in log lines."""
        self._redis = redis
        self._node = node
        self._nodes = nodes
        self._owner = owner
        self._labels = labels
        #: Whether Redis has answered a beat of this node before.
        self._is_known = False
        self._beating: asyncio.Task[None] | None = None
        #: Beside the beats: to bury a large node takes longer than the time after which this one would count as dead.
        self._burial: asyncio.Task[None] | None = None

    def start(self, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Beats from now on each time when `seconds` have passed, or at once when `wake` is set."""
        self._beating = start_watched(self._keep_beating(seconds, wake or asyncio.Event()), "beat")

    async def close(self) -> None:
        """Beats no more, and leaves a burial that is under way to other nodes."""
        tasks = [task for task in (self._beating, self._burial) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def answered(self, is_new: bool) -> None:
        """Redis has answered a beat; `is_new` says that it did not know this node."""
        if is_new and self._is_known:
            _log.warning("node was taken for dead", **self._labels, node=self._node)
            self._owner.taken_for_dead()
        self._is_known = True

    def bury(self, dead: Sequence[bytes]) -> None:
        """Buries dead nodes in the background: name, last beat, name, ... as `append_dead` answers them.

        They are buried one after the other. While that lasts nothing else is begun: the next beat names those again
        that are still there.
        """
        if dead and (self._burial is None or self._burial.done()):
            nodes = [(node.decode(), int(float(beat))) for node, beat in zip(dead[::2], dead[1::2], strict=True)]
            self._burial = start_logged(self._bury_all(nodes), "burial")

    async def _keep_beating(self, seconds: float, wake: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), seconds)
            wake.clear()
            try:
                await self._owner.beat()
            except StoreUnavailable:
                continue
            except StoreError as error:
                _log.error("beat failed", **self._labels, reason=str(error))

    async def _bury_all(self, nodes: Sequence[tuple[str, int]]) -> None:
        for node, last_beat_ms in nodes:
            try:
                if await self._is_still_dead(node, last_beat_ms):
                    await self._owner.bury(node, last_beat_ms)
            except StoreUnavailable:
                return  # the next beat finds the rest
            except StoreError as error:
                _log.error("burial failed", **self._labels, node=node, reason=str(error))

    async def _is_still_dead(self, node: str, last_beat_ms: int) -> bool:
        """False when it has woken up meanwhile, or when another node has buried it."""
        score = await self._redis.command("ZSCORE", self._nodes, node)
        return score is not None and int(float(score)) == last_beat_ms
