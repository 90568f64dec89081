"""Rows for the journal that this node writes itself: connections that ended, refusals, warnings and errors, samples.

A bounded buffer. It knows neither Redis nor SQL; without a journal it takes nothing.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.config.settings import CANARY_SITE

#: Rows that wait for the next second; past it further ones are dropped, and counted.
MAX_ROWS = 10_000
#: In the audit: the revocation of resume tickets, by an operator or by a site's backend.
TICKETS_REVOKED = "tickets.revoke"
SITE_BACKEND = "the site's backend"

Row = dict[str, Any]


class NodeRecords:
    """The rows of one node that are not in Redis yet. Lives as long as the node's counts."""

    def __init__(self) -> None:
        #: Whether there is a journal; without one, rows are not even made.
        self.is_kept = False
        #: Rows that were dropped, by table.
        self.dropped: Counter[str] = Counter()
        self._rows: dict[tuple[str | None, str], list[Row]] = {}
        self._count = 0

    def add(self, table: str, site: str | None, row: Mapping[str, Any]) -> None:
        """Keeps a row, whose keys are the columns of the table. The hidden site has none."""
        if not self.is_kept or site == CANARY_SITE:
            return
        if self._count >= MAX_ROWS:
            self.dropped[table] += 1
            return
        self._count += 1
        self._rows.setdefault((site, table), []).append(dict(row))

    def take(self) -> dict[tuple[str | None, str], list[Row]]:
        """The rows by site and table. The buffer is empty then."""
        rows, self._rows, self._count = self._rows, {}, 0
        return rows
