"""The row of a connection that ends."""

from app.core.live import ConnectionFacts, Measures, row_of
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
