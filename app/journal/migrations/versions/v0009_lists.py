"""Indexes for lists: one for each state of messages that is not the usual end, and connections by their end alone."""

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0006"

_STATES = ("waiting", "written", "expired", "replaced", "settled", "withdrawn", "resynced")
_BEFORE = {
    "messages_unfinished": "(n_waiting > 0 OR n_written > 0)",
    "messages_lost": "(n_expired > 0 OR n_replaced > 0 OR n_settled > 0 OR n_withdrawn > 0 OR n_resynced > 0)",
}


def upgrade() -> None:
    """Two indexes over several states each give way to one for each state."""
    for name in _BEFORE:
        op.drop_index(name, "messages")
    for state in _STATES:
        _make(f"messages_{state}", f"n_{state} > 0")
    op.create_index("connections_by_end", "connections", ["disconnected_at"])


def downgrade() -> None:
    """The two indexes as they were."""
    op.drop_index("connections_by_end", "connections")
    for state in _STATES:
        op.drop_index(f"messages_{state}", "messages")
    for name, condition in _BEFORE.items():
        _make(name, condition)


def _make(name: str, condition: str) -> None:
    where = text(condition)
    op.create_index(name, "messages", ["site_id", "seq"], postgresql_where=where, sqlite_where=where)
