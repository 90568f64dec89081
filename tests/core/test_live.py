"""Open connections in pages, and the row of a connection that ends."""

from collections.abc import Iterable, Iterator
from random import Random

import pytest

from app.core.live import ConnectionFacts, LiveConnection, LivePlace, LiveQuestion, Measures, live_rows, row_of
from app.journal.node_rows import row_of as journal_row
from app.journal.tables import connections


def test_a_row_has_every_column() -> None:
    """The keys are the columns of the journal's table but for those that the journal fills, and the version of
    the client's library, which none tells; unknown is NULL."""
    facts = ConnectionFacts("u", "phone", "192.0.2.1", "", "", None, 5, 1, 2)
    row = row_of("sites", facts, Measures("websocket", 10, 20, 3, 1, 7, 99), "ping timeout")
    assert row.keys() == {column.name for column in connections.columns} - {"id", "site_id", "node", "client_version"}
    assert row["user_agent"] is row["version"] is None
    assert (row["connect_ms"], row["authorise_ms"], row["sync_ms"], row["bytes_read"]) == (1, 2, 7, 10)
    assert journal_row(connections, row)["messages"] == 3


class _One:
    """An open connection."""

    def __init__(self, number: int, at: int, user: str) -> None:
        self.facts = ConnectionFacts(user, "d", "::1", "", "4", None, at)
        self.live_id = str(number)

    def measures(self) -> Measures:
        """Nothing is known."""
        return Measures()

    def disconnect(self, reason: str) -> None:
        """No test ends it."""


class _Lister:
    """A protocol with connections of one site, in no order."""

    def __init__(self, ones: Iterable[_One]) -> None:
        self._ones = list(ones)

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The connections of the site `shop`."""
        yield from self._ones if site == "shop" else []


@pytest.mark.parametrize("is_oldest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 200])
async def test_pages_of_connections(chance: Random, limit: int, is_oldest_first: bool) -> None:
    """Pages have each connection once, in the order of the begins, several of one moment too; a filter leaves out the
    others."""
    ones = [_One(number, chance.randrange(40), f"user_{number % 3}") for number in range(300)]
    listers = {"sites": _Lister(ones), "channels": _Lister([_One(7, 5, "user_1")])}
    for user, protocol, count in ((None, None, 301), ("user_1", "sites", 100), (None, "channels", 1)):
        found: list[LivePlace] = []
        while True:
            question = LiveQuestion(limit, "shop", user, found[-1] if found else None, protocol, is_oldest_first)
            rows = await live_rows(listers, ["shop", "news"], question, "ab")
            assert len(rows) <= limit
            found += [row.place for row in rows]
            if len(rows) < limit:
                break
        assert found == sorted(set(found), reverse=not is_oldest_first)
        assert len(found) == count
    assert len(await live_rows(listers, ["shop", "news"], LiveQuestion(200), "ab")) == 200
