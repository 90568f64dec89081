"""Rows of the journal as operations list them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from app.clock import rfc3339
from app.console.parameters import read_place, time_ms, write_place
from app.errors import RequestRefused
from app.journal.row_lists import Place, RowFilter, RowPage
from app.protocols.operations import Actor, ListInputs, Time

RowOrder = Literal["newest", "oldest"]
#: `list_rows` of a database.
ReadRows: TypeAlias = Callable[[str, RowFilter, int, Place | None], Awaitable[RowPage]]


class RowInputs(ListInputs, frozen=True, kw_only=True):
    """The parameters of every list of rows."""

    since: Time | None = None
    until: Time | None = None
    order: RowOrder = "newest"


def bound_sites(caller: Actor, site: str | None) -> frozenset[str] | None:
    """The sites whose rows a caller gets, for one site or None. Raises RequestRefused for a site of others."""
    if site is None:
        return caller.sites
    if not caller.knows(site):
        raise RequestRefused("There is no such site.", "unknown_site", 404)
    return frozenset([site])


async def answer_rows(
    read_rows: ReadRows, table: str, given: RowInputs, sites: frozenset[str] | None, equal: Sequence[str]
) -> dict[str, Any]:
    """A page of a table's rows. `sites` are those that the caller may see; `equal` names the parameters that are
    columns with the same value."""
    wanted = RowFilter(
        sites=sites,
        since=time_ms("since", given.since),
        until=time_ms("until", given.until),
        equal={name: value for name in equal if (value := getattr(given, name)) is not None},
        is_oldest_first=given.order == "oldest",
    )
    page = await read_rows(table, wanted, given.limit, read_place(given.cursor))
    return {"items": [_shown(row) for row in page.rows], "cursor": write_place(page.next)}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its time as answers show times."""
    return {**row, "at": rfc3339(row["at"])}
