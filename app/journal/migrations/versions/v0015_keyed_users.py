"""The numbers of a messenger's users that have a password: made-up answers have the iterations of one of them."""

from alembic import op
from sqlalchemy import Column, Integer

revision = "0015"
down_revision = "0014"

_NUMBER = """
    UPDATE chat_users SET keyed = numbered.number FROM (
        SELECT id, row_number() OVER (PARTITION BY site_id ORDER BY id) AS number
        FROM chat_users WHERE stored_key IS NOT NULL
    ) AS numbered WHERE numbered.id = chat_users.id
"""


def upgrade() -> None:
    """Numbers the users that there are, in the order of their ids."""
    op.add_column("chat_users", Column("keyed", Integer))
    op.execute(_NUMBER)
    op.create_index("chat_users_keyed", "chat_users", ["site_id", "keyed"], unique=True)


def downgrade() -> None:
    """Forgets the numbers."""
    op.drop_index("chat_users_keyed", "chat_users")
    op.drop_column("chat_users", "keyed")
