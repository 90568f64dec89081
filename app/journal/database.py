"""The connection to SQL, PostgreSQL or SQLite, and the translation of its errors. Knows no table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ConfigError, RecadoError

#: How long a connection to SQL, and one statement, may take.
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0
#: A question of an operator that takes longer is given up.
ANSWER_SECONDS = 5.0
#: Another writer of the same SQLite file is waited for this long.
_BUSY_SECONDS = 10.0
_POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
_SQLITE_SCHEMES = ("sqlite", "sqlite+aiosqlite")


class JournalUnavailable(RecadoError):
    """SQL does not answer, or not in time."""


def read_database_url(text: str) -> URL:
    """The parts of a database's URL. Raises ConfigError without the URL, which may hold a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("database_url: expected a URL such as postgresql://user@host/name") from None
    if url.drivername in _POSTGRES_SCHEMES:
        return url.set(drivername="postgresql+asyncpg")
    if url.drivername in _SQLITE_SCHEMES and url.database:
        return url.set(drivername="sqlite+aiosqlite")
    raise ConfigError("database_url: expected postgresql:// or sqlite:///path")


def open_database(
    text: str, *, is_writer: bool = False, connections: int = 4, statement_seconds: float = STATEMENT_SECONDS
) -> AsyncEngine:
    """The engine for a URL, not connected yet; its owner disposes of it. With `is_writer` each transaction takes
    SQLite's lock for writing at its begin. A statement of PostgreSQL may take so many seconds."""
    url = read_database_url(text)
    if url.get_backend_name() == "postgresql":
        return _open_postgres(url, connections, statement_seconds)
    _make_private(Path(url.database or ""))
    engine = create_async_engine(url, pool_size=connections, connect_args={"timeout": _BUSY_SECONDS})
    engine.dialect.statement_compiler = _SqliteCompiler
    _prepare_sqlite(engine, "BEGIN IMMEDIATE" if is_writer else "BEGIN")
    return engine


def is_postgres(engine: AsyncEngine) -> bool:
    """Whether the database is PostgreSQL; else it is SQLite."""
    return engine.dialect.name == "postgresql"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the errors of a database that is away, or not as it should be, into JournalUnavailable. A refused row stays
    a DBAPIError."""
    try:
        yield
    except DBAPIError as error:
        if is_refusal(error):
            raise
        raise JournalUnavailable(_first_line(error)) from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise JournalUnavailable(_first_line(error)) from error
    except Exception as error:
        # At a connect SQLAlchemy passes the driver's own errors on, such as that of a server that is starting.
        if type(error).__module__.partition(".")[0] not in _DRIVERS:
            raise
        raise JournalUnavailable(_first_line(error)) from error


@contextlib.asynccontextmanager
async def asking(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for one question of an operator. Raises JournalUnavailable when SQL does not answer in time."""
    with translated():
        async with asyncio.timeout(ANSWER_SECONDS), engine.connect() as sql:
            yield sql


_DRIVERS = ("asyncpg", "aiosqlite", "sqlite3")
#: Classes of SQLSTATE that mean a row: data, and integrity.
_OF_A_ROW = ("22", "23")


def is_refusal(error: DBAPIError) -> bool:
    """Whether the database answered, and refuses a row: a repetition would not help."""
    if error.connection_invalidated:
        return False
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state:
        return state.startswith(_OF_A_ROW)
    # SQLite has no states; the driver of PostgreSQL refuses values of the wrong type by itself.
    return isinstance(error, IntegrityError | DataError) or isinstance(error.orig, TypeError | ValueError)


def _first_line(error: BaseException) -> str:
    """The reason in one line, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}"


def _open_postgres(url: URL, connections: int, seconds: float) -> AsyncEngine:
    settings = {
        "application_name": "recado",
        # A commit that a crash of the server takes back would leave a hole: its entries are deleted in Redis by then.
        "synchronous_commit": "on",
        "statement_timeout": str(int(seconds * 1000)),
        # Every statement finds few rows by an index. Where PostgreSQL expects more, the start of its workers and of its
        # compiler takes longer than the answer.
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
        "idle_in_transaction_session_timeout": str(int(2 * seconds * 1000)),
    }
    arguments = {"timeout": CONNECT_SECONDS, "command_timeout": seconds, "server_settings": settings}
    return create_async_engine(
        url, pool_size=connections, max_overflow=0, pool_pre_ping=True, hide_parameters=True, connect_args=arguments
    )


def _make_private(path: Path) -> None:
    """Makes the file, for this user alone: it holds who got what."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise ConfigError(f"database_url: expected a file to write to, {path} ({error.strerror})") from None


class _SqliteCompiler(SQLiteCompiler):
    """Writes the hints of a statement, such as INDEXED BY. Lives while it compiles.

    SQLite has no statistics of a young database, and takes the key of a table for the best index.
    """

    def get_from_hint_text(self, table: Any, text: Any) -> Any:
        """The hint as it is."""
        return text


def _prepare_sqlite(engine: AsyncEngine, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        # The driver begins no transaction of its own.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # Each commit reaches the disk before its entries are deleted in Redis. With NORMAL a power cut could take
            # commits back whose entries are gone: the position and the rows would agree, and both be too old.
            "synchronous=FULL",
            "temp_store=MEMORY",
            "cache_size=-65536",
            "busy_timeout=" + str(int(_BUSY_SECONDS * 1000)),
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.exec_driver_sql(begin)
