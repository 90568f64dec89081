"""Rows of the journal as operations show them. Plain code without I/O."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

from app.clock import rfc3339
from app.errors import RequestRefused
from app.journal.row_lists import Place, RowFilter, RowPage
from app.protocols.operations import Actor

RowOrder = Literal["newest", "oldest"]
#: `list_rows` of a database.
ReadRows: TypeAlias = Callable[[str, RowFilter, int, Place | None], Awaitable[RowPage]]


def bound_sites(caller: Actor, site: str | None) -> frozenset[str] | None:
    """The sites whose rows a caller gets, for one site or None. Raises RequestRefused for a site of others."""
    if site is None:
        return caller.sites
    if not caller.knows(site):
        raise RequestRefused("There is no such site.", "unknown_site", 404)
    return frozenset([site])


def shown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its time as answers show times."""
    return {**row, "at": rfc3339(row["at"])}
