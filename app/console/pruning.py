"""The removal of old rows that an operator asks for: one at a time over all nodes, in the background."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
import structlog
from msgspec import Struct, structs

from app.clock import now_ms, rfc3339
from app.errors import RecadoError, RequestRefused
from app.protocols.operations import Call, Operation, Role
from app.redis.client import Commands
from app.watched_tasks import start_logged

#: `prune` of the database: it calls with each part that is deleted, by its table.
Prune: TypeAlias = Callable[[Callable[[str, int], None]], Awaitable[object]]

#: The keys; see `app/store/keys.py`.
_RUNNING = "recado:console:pruning"
_LAST = "recado:console:pruned"
#: A node that has died meanwhile holds up the next one for this long.
_LEASE_MS = 30_000
_RENEW_SECONDS = 1.0
_KEPT_SECONDS = 30 * 86_400

_log = structlog.get_logger(__name__)


class PruneState(Struct, frozen=True):
    """A removal, under way or over. Lives as long as its key."""

    operator: str
    node: str
    began_at: int
    ended_at: int | None = None
    #: Rows by table so far.
    deleted: dict[str, int] = {}
    #: Why it ended early.
    error: str | None = None


class Pruning:
    """The removals that this node does. Lives as long as the node; `close` ends the one under way."""

    def __init__(self, redis: Commands, node: str, prune: Prune) -> None:
        self._redis = redis
        self._node = node
        self._prune = prune
        self._task: asyncio.Task[None] | None = None

    def operations(self) -> list[Operation]:
        """The removal, and the state of the last one."""
        begin, show = "Delete the rows that are older than their retention", "Show the last removal of old rows"
        return [
            Operation("database.pruning", show, "GET", "/database/pruning", Role.ADMIN, self._show),
            Operation("database.prune", begin, "POST", "/database/prune", Role.ADMIN, self._begin, hurts=True),
        ]

    async def close(self) -> None:
        """Ends the removal under way: what it has deleted stays deleted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _show(self, call: Call) -> dict[str, Any]:
        running, last = await self._read(_RUNNING), await self._read(_LAST)
        return {"running": _shown(running), "last": _shown(last)}

    async def _begin(self, call: Call) -> dict[str, Any]:
        state = PruneState(call.caller.name, self._node, now_ms())
        if not await self._redis.command("SET", _RUNNING, msgspec.json.encode(state), "NX", "PX", _LEASE_MS):
            raise RequestRefused("Old rows are being deleted already.", "running", 409)
        self._task = start_logged(self._run(state), "prune for an operator")
        return {"ok": True}

    async def _read(self, key: str) -> PruneState | None:
        kept = await self._redis.command("GET", key)
        return None if kept is None else msgspec.json.decode(kept, type=PruneState)

    async def _run(self, begun: PruneState) -> None:
        deleted: dict[str, int] = {}

        def count(table: str, rows: int) -> None:
            deleted[table] = deleted.get(table, 0) + rows

        renewing = start_logged(self._keep_renewing(begun, deleted), "prune lease")
        error: str | None = "the server has ended"
        try:
            await self._prune(count)
            error = None
        except RecadoError as failure:
            error = str(failure)
            _log.error("journal not pruned", reason=error)
        finally:
            renewing.cancel()
            await self._end(structs.replace(begun, ended_at=now_ms(), deleted=deleted, error=error))

    async def _end(self, state: PruneState) -> None:
        try:
            await self._redis.command("SET", _LAST, msgspec.json.encode(state), "EX", _KEPT_SECONDS)
            await self._redis.command("DEL", _RUNNING)
        except RecadoError as error:
            _log.warning("end of a prune not noted", reason=str(error))

    async def _keep_renewing(self, begun: PruneState, deleted: dict[str, int]) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            state = msgspec.json.encode(structs.replace(begun, deleted=deleted))
            try:
                await self._redis.command("SET", _RUNNING, state, "XX", "PX", _LEASE_MS)
            except RecadoError:
                # The next one may come in time.
                continue


def _shown(state: PruneState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    ended_at = None if state.ended_at is None else rfc3339(state.ended_at)
    return {**structs.asdict(state), "began_at": rfc3339(state.began_at), "ended_at": ended_at}
