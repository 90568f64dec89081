"""Lists of rows of all sites, in both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal import row_lists
from app.journal.row_lists import Place, RowFilter, RowPage, list_rows
from app.journal.tables import log, sites, webhook_attempts


@pytest.fixture
async def lines(engine: AsyncEngine) -> AsyncEngine:
    """A log with lines of two sites and of none; two lines have the same time."""
    async with engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}, {"id": 2, "name": "news"}])
        rows = [
            {"at": 10 * (number // 2), "site_id": (1, 2, None)[number % 3], "level": "error", "event": str(number)}
            for number in range(12)
        ]
        await sql.execute(insert(log), rows)
    return engine


async def all_pages(engine: AsyncEngine, wanted: RowFilter, limit: int) -> list[list[str]]:
    """The events of all pages."""
    pages: list[list[str]] = []
    before: Place | None = None
    while True:
        page = await list_rows(engine, "log", wanted, limit, before)
        pages.append([row["event"] for row in page.rows])
        before = page.next
        if before is None:
            return pages


@pytest.mark.parametrize(
    ("wanted", "events"),
    [
        (RowFilter(), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (RowFilter(sites=frozenset(["shop"])), [9, 6, 3, 0]),
        (RowFilter(sites=frozenset(["shop", "news", "gone"])), [10, 9, 7, 6, 4, 3, 1, 0]),
        (RowFilter(sites=frozenset()), []),
        (RowFilter(since=20, until=30), [7, 6, 5, 4]),
        (RowFilter(equal={"event": "5"}), [5]),
        (RowFilter(is_oldest_first=True), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (RowFilter(is_oldest_first=True, sites=frozenset(["shop"]), since=10), [3, 6, 9]),
        (RowFilter(equal={"event": "5", "level": "warning"}), []),
    ],
)
@pytest.mark.parametrize("limit", [1, 5, 50])
async def test_pages(lines: AsyncEngine, wanted: RowFilter, events: list[int], limit: int) -> None:
    """The rows that pass come in the order of time, each on one page, pages of rows of one time too."""
    pages = await all_pages(lines, wanted, limit)
    assert [event for page in pages for event in page] == list(map(str, events))
    assert all(len(page) == limit for page in pages[:-1])


async def test_a_row(lines: AsyncEngine) -> None:
    """A row has the name of its site, and no number of it."""
    (row,) = (await list_rows(lines, "log", RowFilter(equal={"event": "4"}), 5)).rows
    expected: dict[str, Any] = {"event": "4", "site": "news", "at": 20, "level": "error"}
    assert expected.items() <= row.items()
    assert "site_id" not in row


async def test_a_page_looks_at_few_rows(lines: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded number of rows: where few pass, it is short, and the next one goes on."""
    monkeypatch.setattr(row_lists, "ROWS_LOOKED_AT", 4)
    pages = await all_pages(lines, RowFilter(equal={"event": "1"}), 5)
    assert pages == [[], [], ["1"], []]


async def test_a_page_of_one_site_looks_at_its_rows_alone(lines: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an index begins with the site, the rows of others do not count among those that a page looks at."""
    monkeypatch.setattr(row_lists, "ROWS_LOOKED_AT", 1)
    assert await all_pages(lines, RowFilter(sites=frozenset(["shop"])), 5) == [["9", "6", "3", "0"]]
    assert (await all_pages(lines, RowFilter(sites=frozenset(["shop"]), equal={"event": "0"}), 5))[-2:] == [["0"], []]


async def test_the_attempts_of_one_webhook(lines: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value with an index of its own is found among any number of rows, at once."""
    monkeypatch.setattr(row_lists, "ROWS_LOOKED_AT", 1)
    async with lines.begin() as sql:
        rows = [{"site_id": 1, "at": number, "webhook_id": f"post-{number % 4}"} for number in range(12)]
        await sql.execute(insert(webhook_attempts), rows)
    wanted = RowFilter(sites=frozenset(["shop"]), equal={"webhook_id": "post-2"})
    page = await list_rows(lines, "webhook_attempts", wanted, 5)
    assert ([row["at"] for row in page.rows], page.next) == ([10, 6, 2], None)
    unknown = RowFilter(sites=frozenset(["shop"]), equal={"webhook_id": "post-2", "outcome": "off"})
    assert await list_rows(lines, "webhook_attempts", unknown, 5) == RowPage([], None)
