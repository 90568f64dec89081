"""The commands of the journal: its writer alone, and the care for its database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.commands.failures import ConfigFailure, Failure, Load, config_option, sites_option
from app.config.settings import Config
from app.errors import ConfigError, RecadoError
from app.journal.database import open_database
from app.journal.prune import prune
from app.journal.schema import upgrade_schema
from app.node.journal_process import work_for_server, write_journal
from app.node.signals import ignore_hangup
from app.observe.log import configure_logging

_Answer = TypeVar("_Answer")


@click.command("journal-writer", hidden=True)
def journal_writer() -> None:
    """Write the journal for a server, which starts this command and writes its settings to stdin."""
    try:
        work_for_server()
    except RecadoError as error:
        raise Failure(str(error)) from None


@click.command()
@config_option
@sites_option
@click.pass_obj
def journal(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """Write the journal, where it shall not run beside `recado serve`. Of several writers one works, the others wait.

    \b
    Example:
      DATABASE_URL=postgresql://recado@db/recado REDIS_URL=redis://localhost recado journal
    """
    config = load(config_path, sites_path)
    configure_logging(config.log_level, config.log_format)
    ignore_hangup()
    try:
        asyncio.run(write_journal(config))
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except RecadoError as error:
        raise Failure(str(error)) from None


@click.group()
def db() -> None:
    """Look after the journal's database."""


@db.command()
@config_option
@sites_option
@click.pass_obj
def upgrade(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """Bring the journal's tables to the version of this program. The writer does so at its start, too.

    \b
    Example:
      recado db upgrade
    """
    before, after = in_database(load(config_path, sites_path), upgrade_schema)
    click.echo(f"OK tables have version {after}" + (f", had {before}" if before != after else ""))


@db.command("prune")
@config_option
@sites_option
@click.pass_obj
def prune_database(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """Delete the rows that are older than journal.retention. The writer does so every ten minutes.

    \b
    Example:
      recado db prune
    """
    config = load(config_path, sites_path)
    deleted = in_database(config, lambda engine: prune(engine, config.journal))
    click.echo("OK " + (", ".join(f"{table}: {count}" for table, count in deleted.items()) or "nothing is so old"))


def in_database(config: Config, work: Callable[[AsyncEngine], Awaitable[_Answer]]) -> _Answer:
    """The answer of some work on the journal's database. Raises Failure."""
    if config.journal_url is None:
        raise Failure("there is no journal: expected database_url or DATABASE_URL")

    async def run_work(url: str) -> _Answer:
        engine = open_database(url, is_writer=True)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run_work(config.journal_url))
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except RecadoError as error:
        raise Failure(str(error)) from None


COMMANDS: tuple[click.Command, ...] = (journal, journal_writer, db)
