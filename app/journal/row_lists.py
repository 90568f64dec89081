"""Lists of the rows of all sites, in the order of time: the log, the audit, and other tables of rows.

Each page reads a bounded number of rows by the index on their time.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, FromClause, Row, Table, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import translated
from app.journal.tables import ROW_TABLES, sites

#: The rows that one page looks at. A page past it is shorter than asked for, or empty, and has a next one all the same.
ROWS_LOOKED_AT = 5_000
_ANSWER_SECONDS = 5.0

#: The time and the id of a row.
Place = tuple[int, int]


class RowFilter(Struct, frozen=True, kw_only=True):
    """Which rows to list; None: any."""

    #: The names of sites. A row of no site passes only without it.
    sites: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None
    #: Column -> its value.
    equal: Mapping[str, object] = {}
    #: Whether the oldest come first.
    is_oldest_first: bool = False


class RowPage(Struct, frozen=True):
    """A part of a list: its rows, with the name of the site, and the place of the last one that was looked at."""

    rows: Sequence[Mapping[str, Any]]
    next: Place | None


async def list_rows(
    engine: AsyncEngine, name: str, wanted: RowFilter, limit: int, behind: Place | None = None
) -> RowPage:
    """The rows of a table that pass, from behind a place. Raises JournalUnavailable."""
    table = ROW_TABLES[name]
    looked = select(table).where(*_bounds(table, wanted, behind)).order_by(*_order(table, wanted))
    is_of_index = wanted.sites is None or _site_of(table, wanted) is not None
    is_whole = is_of_index and (not wanted.equal or _is_sought(table, wanted))
    if is_whole:
        # Few rows, or all of them: no other filter is left.
        looked = looked.where(*(table.c[column] == value for column, value in wanted.equal.items()))
    inner = looked.limit(limit + 1 if is_whole else ROWS_LOOKED_AT).subquery()
    order = _order(inner, wanted)
    statement = select(inner, sites.c.name.label("site")).outerjoin(sites, sites.c.id == inner.c.site_id)
    statement = statement.where(*(inner.c[column] == value for column, value in wanted.equal.items()))
    if wanted.sites is not None:
        statement = statement.where(sites.c.name.in_(wanted.sites))
    with translated():
        async with asyncio.timeout(_ANSWER_SECONDS), engine.connect() as sql:
            rows = (await sql.execute(statement.order_by(*order).limit(limit + 1))).all()
            if len(rows) > limit:
                return RowPage(list(map(_shown, rows[:limit])), (rows[limit - 1].at, rows[limit - 1].id))
            last = None
            if not is_whole:
                of_all = select(inner.c.at, inner.c.id).order_by(*order).offset(ROWS_LOOKED_AT - 1)
                last = (await sql.execute(of_all)).first()
    return RowPage(list(map(_shown, rows)), None if last is None else (last.at, last.id))


def _order(table: FromClause, wanted: RowFilter) -> list[ColumnElement[int]]:
    keys = (table.c.at, table.c.id)
    return [key.asc() if wanted.is_oldest_first else key.desc() for key in keys]


def _site_of(table: Table, wanted: RowFilter) -> str | None:
    """The one site whose rows are wanted, if an index has them in order of time."""
    has_index = any([*index.columns.keys()] == ["site_id", "at"] for index in table.indexes)
    return next(iter(wanted.sites)) if has_index and wanted.sites and len(wanted.sites) == 1 else None


def _is_sought(table: Table, wanted: RowFilter) -> bool:
    """Whether an index finds the few rows of a site with one of the values."""
    if _site_of(table, wanted) is None:
        return False
    return any([*index.columns.keys()] == ["site_id", column] for index in table.indexes for column in wanted.equal)


def _bounds(table: Table, wanted: RowFilter, behind: Place | None) -> Iterator[ColumnElement[bool]]:
    if (name := _site_of(table, wanted)) is not None:
        yield table.c.site_id == select(sites.c.id).where(sites.c.name == name).scalar_subquery()
    if wanted.since is not None:
        yield table.c.at >= wanted.since
    if wanted.until is not None:
        yield table.c.at <= wanted.until
    if behind is not None:
        at, id = behind
        # The first condition alone finds the place in the index.
        if wanted.is_oldest_first:
            yield and_(table.c.at >= at, or_(table.c.at > at, table.c.id > id))
        else:
            yield and_(table.c.at <= at, or_(table.c.at < at, table.c.id < id))


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "site_id"}
