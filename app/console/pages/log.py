"""The page of warnings and errors of all nodes."""

from typing import Any, Literal

from app.console.page import ConsolePage
from app.console.rows import ReadRows, RowInputs, answer_rows, bound_sites
from app.protocols.operations import Call, Operation, Role, Words

LOG = ConsolePage("log", "Log", "log.list", live_seconds=2.0, is_shared=True)


class LogParameters(RowInputs, frozen=True, kw_only=True):
    """Which lines to list."""

    level: Literal["warning", "error", "critical"] | None = None
    site: Words | None = None
    node: Words | None = None
    event: Words | None = None


def log_operations(read_rows: ReadRows) -> list[Operation]:
    """The list, on these rows. An operator of some sites sees only their lines."""

    async def run(call: Call) -> dict[str, Any]:
        given: LogParameters = call.given
        sites = bound_sites(call.caller, given.site)
        return await answer_rows(read_rows, "log", given, sites, ("level", "node", "event"))

    summary = "List warnings and errors of all nodes"
    return [Operation("log.list", summary, "GET", "/log", Role.VIEWER, run, LogParameters)]
