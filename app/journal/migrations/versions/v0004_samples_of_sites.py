"""Samples of single sites beside those of whole nodes."""

from alembic import op
from sqlalchemy import Column, Integer

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the site of a sample. The samples that are there are of whole nodes."""
    op.add_column("samples", Column("site_id", Integer))
    op.create_index("samples_by_site", "samples", ["site_id", "seconds", "at"])


def downgrade() -> None:
    """Deletes the samples of sites, and their column."""
    op.execute("DELETE FROM samples WHERE site_id IS NOT NULL")
    op.drop_index("samples_by_site", "samples")
    op.drop_column("samples", "site_id")
