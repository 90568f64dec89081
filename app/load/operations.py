"""The operations of the load test: start, stop, list, show, compare, remove. For administrators alone.

A run costs the whole server, so a node has one at a time. Its devices are the server's own, in its hidden site.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, TypeAlias

from msgspec import Meta

from app.errors import RequestRefused
from app.load.plan import Description, Devices, LoadPlan, Messages, RoomId, Seconds, SiteName
from app.protocols.operations import Call, Inputs, ListInputs, Operation, Role

_Id = Annotated[int, Meta(ge=1, le=2**53)]
_Run: TypeAlias = Callable[[Call], Awaitable[Any]]
#: The totals that a comparison shows: the name, and the way to it.
_COMPARED = (
    *(("per_second", name) for name in ("received", "sent", "receipts_stored", "operations")),
    *(("delivery_ms", name) for name in ("average", "p50", "p99", "most")),
    ("store_ms", "average"),
    ("notify_ms", "average"),
)


class NewRun(Inputs, frozen=True, kw_only=True):
    """A run."""

    description: Description = ""
    devices: Devices = 10
    #: The messages of each device.
    messages: Messages = 10
    #: The most that it may take.
    seconds: Seconds = 60
    #: A site with a messenger, in which users send to a room; empty: devices of the server's own.
    site: SiteName = ""
    #: The room whose clients take part, in place of simulated users.
    room: RoomId = 0


class RunPath(Inputs, frozen=True, kw_only=True):
    """The number of a run."""

    id: _Id


class TwoRuns(Inputs, frozen=True, kw_only=True):
    """The runs that are compared."""

    id: _Id
    other: _Id


class Runs(Protocol):
    """The runs that are kept."""

    async def list_runs(self, limit: int, below: int | None) -> Any:
        """Newest first."""

    async def find(self, id: int) -> dict[str, Any] | None:
        """One run; None: there is none."""

    async def remove(self, id: int) -> bool:
        """Removes a run that has ended."""


class Bench(Protocol):
    """The runs of the nodes."""

    async def start(self, plan: LoadPlan, description: str, operator: str) -> int:
        """Starts a run and returns its number. Raises RequestRefused."""

    async def stop(self, id: int, node: str) -> bool:
        """Stops a run on the node that has it. False: it runs no more. Raises RequestRefused, StoreError."""


def load_operations(runs: Runs, bench: Bench) -> list[Operation]:
    """The operations on these runs."""
    return list(_Load(runs, bench).operations())


class _Load:
    """The operations. Lives as long as the node."""

    def __init__(self, runs: Runs, bench: Bench) -> None:
        self._runs = runs
        self._bench = bench

    def operations(self) -> list[Operation]:
        """All of them."""

        def one(
            name: str, summary: str, method: str, path: str, run: Callable[[Call], Awaitable[Any]], of: Any
        ) -> Operation:
            return Operation(f"load.{name}", summary, method, f"/load{path}", Role.ADMIN, run, of)

        return [
            one("list", "List the runs of the load test, newest first", "GET", "", self._list, ListInputs),
            one("start", "Start a run of the load test", "POST", "", self._start, NewRun),
            one("show", "Show one run", "GET", "/{id}", self._show, RunPath),
            one("compare", "Compare two runs", "GET", "/{id}/compare", self._compare, TwoRuns),
            one("stop", "Stop a run, on whatever node it is", "POST", "/{id}/stop", self._stop, RunPath),
            one("remove", "Remove a run that has ended", "DELETE", "/{id}", self._remove, RunPath),
        ]

    async def _list(self, call: Call) -> dict[str, Any]:
        cursor = call.given.cursor
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 16):
            raise RequestRefused("cursor: expected one of an earlier page", "bad_parameter", 400)
        found = await self._runs.list_runs(call.given.limit, None if cursor is None else int(cursor))
        return {"items": found, "cursor": str(found[-1]["id"]) if len(found) == call.given.limit else None}

    async def _start(self, call: Call) -> dict[str, Any]:
        given: NewRun = call.given
        size = {"devices": given.devices, "messages": given.messages, "seconds": given.seconds}
        plan = LoadPlan(**size, site=given.site, room=given.room)
        plan.check()
        return {"ok": True, "id": await self._bench.start(plan, given.description, call.caller.name)}

    async def _show(self, call: Call) -> dict[str, Any]:
        return await self._found(call.given.id)

    async def _compare(self, call: Call) -> dict[str, Any]:
        first, second = [await self._found(id) for id in (call.given.id, call.given.other)]
        return {"runs": [first, second], "rows": rows_of(first["totals"], second["totals"])}

    async def _stop(self, call: Call) -> dict[str, Any]:
        found = await self._found(call.given.id)
        if found["state"] != "running" or not await self._bench.stop(found["id"], found["node"]):
            raise RequestRefused("The run is not under way any more.", "not_running", 409)
        return {"ok": True}

    async def _remove(self, call: Call) -> dict[str, Any]:
        await self._found(call.given.id)
        if not await self._runs.remove(call.given.id):
            raise RequestRefused("The run is under way: stop it first.", "running", 409)
        return {"ok": True}

    async def _found(self, id: int) -> dict[str, Any]:
        found = await self._runs.find(id)
        if found is None:
            raise RequestRefused("There is no such run.", "unknown_run", 404)
        return found


def rows_of(first: dict[str, Any] | None, second: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The totals of two runs side by side, with the change from the first to the second in percent."""
    rows = []
    for group, name in _COMPARED:
        one, other = _value(first, group, name), _value(second, group, name)
        change = round(100 * (other - one) / one, 1) if one and other is not None else None
        rows.append({"total": f"{group}.{name}", "first": one, "second": other, "change_percent": change})
    return rows


def _value(totals: dict[str, Any] | None, group: str, name: str) -> float | None:
    found = ((totals or {}).get(group) or {}).get(name)
    return found if isinstance(found, int | float) else None
