"""The versions of the journal's tables: brings a database to the newest one, under a lock, with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import RecadoError
from app.journal.database import is_postgres, open_database, translated

#: Any number that no other application of the database uses: the key of the lock.
_LOCK = 7_236_013_001
#: A statement of an upgrade: an index reads all of a large table.
UPGRADE_SECONDS = 3_600.0
_FOLDER = Path(__file__).parent / "migrations"


class SchemaTooNew(RecadoError):
    """The journal's tables are of a later version of Recado."""


async def upgrade_schema(engine: AsyncEngine) -> tuple[str | None, str | None]:
    """Brings the tables to the newest version. Returns the version before and after. Several callers wait for each
    other. Raises JournalUnavailable, SchemaTooNew."""
    # SQLite: an engine for writing holds the lock from the begin on.
    url = engine.url.render_as_string(hide_password=False)
    upgrading = open_database(url, is_writer=True, connections=1, statement_seconds=UPGRADE_SECONDS)
    try:
        with translated():
            async with upgrading.begin() as connection:
                if is_postgres(upgrading):
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                return await connection.run_sync(_upgrade)
    finally:
        await upgrading.dispose()


def newest_version() -> str | None:
    """The version of this program's tables."""
    return ScriptDirectory(str(_FOLDER)).get_current_head()


def _upgrade(connection: Connection) -> tuple[str | None, str | None]:
    config = AlembicConfig()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    before = _version(connection)
    scripts = ScriptDirectory.from_config(config)
    if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaTooNew
    if before != scripts.get_current_head():
        command.upgrade(config, "head")
    return before, _version(connection)


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
