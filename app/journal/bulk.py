"""Many rows at once: COPY into PostgreSQL, executemany into SQLite. Knows no table's meaning."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

#: The working table of one transaction, for rows that meet others.
STAGED = "staged"
_STAGED_COLUMNS = (
    "site_id integer, seq bigint, device_id bigint, state smallint, reason smallint, is_batch boolean,"
    " written_at bigint, acked_at bigint, ms integer, ended_at bigint"
)


async def prepare(sql: AsyncConnection) -> None:
    """Makes the working table of a connection, and has PostgreSQL go by its indexes: of the working table it has no
    statistics, and it would read all deliveries to find some."""
    if sql.dialect.name == "postgresql":
        for setting in ("enable_hashjoin", "enable_mergejoin", "enable_seqscan", "jit"):
            await sql.exec_driver_sql(f"SET LOCAL {setting} = off")
        await sql.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {STAGED} ({_STAGED_COLUMNS}) ON COMMIT DELETE ROWS"
        )
    else:
        await sql.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {STAGED} ({_STAGED_COLUMNS})")
        await sql.exec_driver_sql(f"DELETE FROM temp.{STAGED}")


async def load(
    sql: AsyncConnection, table: Table | str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Adds the rows to a table within the transaction. A row that exists already fails it."""
    if not rows:
        return
    name = table if isinstance(table, str) else table.name
    if sql.dialect.name == "postgresql":
        raw = await sql.get_raw_connection()
        connection: Any = raw.driver_connection
        try:
            await connection.copy_records_to_table(name, records=rows, columns=list(columns))
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            # SQLAlchemy does not see this call, so the driver's errors look as its own do here.
            is_over = connection.is_closed()
            raise DBAPIError("COPY", None, error, hide_parameters=True, connection_invalidated=is_over) from error
        return
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    # The driver of SQLite takes a sequence of tuples as executemany.
    await sql.exec_driver_sql(f'INSERT INTO "{name}" ({names}) VALUES ({marks})', list(rows))
