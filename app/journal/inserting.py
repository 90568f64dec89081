"""The `insert` of each database that knows ON CONFLICT."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert as insert_postgres
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def inserter(sql: AsyncConnection) -> Any:
    """The `insert` of this database, which knows ON CONFLICT."""
    return insert_postgres if sql.dialect.name == "postgresql" else insert_sqlite
