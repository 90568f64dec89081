"""The page of what operators did."""

from typing import Any

from app.console.page import ConsolePage
from app.console.rows import ReadRows, RowInputs, answer_rows, bound_sites
from app.protocols.operations import Call, Operation, Role, Words

AUDIT = ConsolePage("audit", "Audit", "audit.list", live_seconds=5.0, is_shared=True)


class AuditParameters(RowInputs, frozen=True, kw_only=True):
    """Which rows to list."""

    operator: Words | None = None
    action: Words | None = None
    site: Words | None = None


def audit_operations(read_rows: ReadRows) -> list[Operation]:
    """The list, on these rows."""

    async def run(call: Call) -> dict[str, Any]:
        given: AuditParameters = call.given
        sites = bound_sites(call.caller, given.site)
        return await answer_rows(read_rows, "audit", given, sites, ("operator", "action"))

    summary = "List what operators did"
    return [Operation("audit.list", summary, "GET", "/audit", Role.ADMIN, run, AuditParameters)]
