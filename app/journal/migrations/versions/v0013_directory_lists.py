"""Indexes for the lists of users, rooms and changes of a messenger's directory."""

from alembic import op

revision = "0013"
down_revision = "0010"

_USERS = ["site_id", "id", "login_key", "external", "name", "is_disabled", "is_admin"]
_ROOMS = ["site_id", "id", "name", "kind", "is_archived"]


def upgrade() -> None:
    """Each index has the columns that its list is filtered by, so that a page reads no row that it does not show."""
    op.create_index("chat_users_listed", "chat_users", _USERS)
    op.drop_index("chat_rooms_by_site", "chat_rooms")
    op.create_index("chat_rooms_listed", "chat_rooms", _ROOMS)
    op.create_index("chat_changes_of_owner", "chat_changes", ["site_id", "owner_id", "id"])


def downgrade() -> None:
    """The indexes as they were."""
    op.drop_index("chat_changes_of_owner", "chat_changes")
    op.create_index("chat_rooms_by_site", "chat_rooms", ["site_id"])
    op.drop_index("chat_rooms_listed", "chat_rooms")
    op.drop_index("chat_users_listed", "chat_users")
