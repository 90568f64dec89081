"""The runs of the load test."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "load_runs",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("started_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("operator", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("description", Text, nullable=False),
        Column("plan", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("totals", Text),
    )
