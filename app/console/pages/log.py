"""The page of warnings and errors of all nodes."""

from typing import Any, Literal

from app.console.page import ConsolePage
from app.console.parameters import read_place, time_ms, write_place
from app.console.rows import ReadRows, RowOrder, bound_sites, shown_row
from app.journal.row_lists import RowFilter
from app.protocols.operations import Call, ListInputs, Operation, Role, Time, Words

LOG = ConsolePage("log", "Log", "log.list", live_seconds=2.0)


class LogParameters(ListInputs, frozen=True, kw_only=True):
    """Which lines to list."""

    level: Literal["warning", "error", "critical"] | None = None
    site: Words | None = None
    node: Words | None = None
    event: Words | None = None
    since: Time | None = None
    until: Time | None = None
    order: RowOrder = "newest"


def log_operations(read_rows: ReadRows) -> list[Operation]:
    """The list, on these rows. An operator of some sites sees only their lines."""

    async def run(call: Call) -> dict[str, Any]:
        given: LogParameters = call.given
        equal = {name: value for name in ("level", "node", "event") if (value := getattr(given, name)) is not None}
        wanted = RowFilter(
            sites=bound_sites(call.caller, given.site),
            since=time_ms("since", given.since),
            until=time_ms("until", given.until),
            equal=equal,
            is_oldest_first=given.order == "oldest",
        )
        page = await read_rows("log", wanted, given.limit, read_place(given.cursor))
        return {"items": [shown_row(row) for row in page.rows], "cursor": write_place(page.next)}

    summary = "List warnings and errors of all nodes"
    return [Operation("log.list", summary, "GET", "/log", Role.VIEWER, run, LogParameters)]
