"""Databases that have the product's tables: copies of one that was upgraded, as an upgrade takes longer than a test."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.journal.database import open_database
from app.journal.schema import upgrade_schema


def make_tables(url: str) -> None:
    """Bring a database to the newest version; callers may have a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _upgrade(url)).result()


def sqlite_with_tables(folder: Path) -> str:
    """The URL of a new file in a folder, with the tables and no row."""
    path = folder / "journal.sqlite"
    path.touch(mode=0o600)
    path.write_bytes(_sqlite_tables())
    return f"sqlite:///{path}"


@functools.cache
def _sqlite_tables() -> bytes:
    with tempfile.TemporaryDirectory(prefix="recado-tables-") as folder:
        path = Path(folder) / "journal.sqlite"
        make_tables(f"sqlite:///{path}")
        return path.read_bytes()


async def _upgrade(url: str) -> None:
    engine = open_database(url, is_writer=True)
    try:
        await upgrade_schema(engine)
    finally:
        await engine.dispose()
