"""The page of what operators did."""

from typing import Any

from app.console.page import ConsolePage
from app.console.parameters import read_place, time_ms, write_place
from app.console.rows import ReadRows, RowOrder, bound_sites, shown_row
from app.journal.row_lists import RowFilter
from app.protocols.operations import Call, ListInputs, Operation, Role, Time, Words

AUDIT = ConsolePage("audit", "Audit", "audit.list", live_seconds=5.0)


class AuditParameters(ListInputs, frozen=True, kw_only=True):
    """Which rows to list."""

    operator: Words | None = None
    action: Words | None = None
    site: Words | None = None
    since: Time | None = None
    until: Time | None = None
    order: RowOrder = "newest"


def audit_operations(read_rows: ReadRows) -> list[Operation]:
    """The list, on these rows."""

    async def run(call: Call) -> dict[str, Any]:
        given: AuditParameters = call.given
        equal = {name: value for name in ("operator", "action") if (value := getattr(given, name)) is not None}
        wanted = RowFilter(
            sites=bound_sites(call.caller, given.site),
            since=time_ms("since", given.since),
            until=time_ms("until", given.until),
            equal=equal,
            is_oldest_first=given.order == "oldest",
        )
        page = await read_rows("audit", wanted, given.limit, read_place(given.cursor))
        return {"items": [shown_row(row) for row in page.rows], "cursor": write_place(page.next)}

    summary = "List what operators did"
    return [Operation("audit.list", summary, "GET", "/audit", Role.ADMIN, run, AuditParameters)]
