"""The command `recado outbox`: sends the messages of a table of the tenant's PostgreSQL, after their commits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from app.backends.exchange import BackendError
from app.backends.sender import RunningServer
from app.clock import rfc3339
from app.commands.failures import ConfigFailure, Failure, Load, config_option, sites_option
from app.commands.site_door import ServerChoice, server_options
from app.commands.tables import table
from app.errors import ConfigError, RecadoError
from app.node.signals import ignore_hangup, obeyed_signals
from app.observe.log import configure_logging
from app.outbox.http_door import SendDoor
from app.outbox.reader import OutboxReader, ReaderOptions
from app.outbox.schema import install_sql
from app.outbox.tables import OutboxLine, OutboxTables, connected

_LONGEST_LIST = 10_000
_Answer = TypeVar("_Answer")

_schema_option = click.option(
    "--schema", default="public", show_default=True, help="The schema of PostgreSQL with the tables."
)


def _database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name an outbox. The DSN may hold a password: the environment is the better place."""
    dsn = click.option("--dsn", envvar="RECADO_OUTBOX_DSN", help="The database, postgresql://user@host/name.")
    return dsn(_schema_option(command))


@click.group(invoke_without_command=True)
@config_option
@sites_option
@_database_options
@click.option("--site", envvar="RECADO_OUTBOX_SITE", help="The only site that is sent to (default: all of sites.yml).")
@click.option("--api-key", envvar="API_KEY", help="The key of --site (env API_KEY; default: from sites.yml).")
@click.option(
    "--in-flight", type=click.IntRange(1, 256), default=16, show_default=True, help="Requests at a time, at most."
)
@click.option(
    "--keep",
    "keep_seconds",
    type=click.IntRange(0),
    default=3600,
    show_default=True,
    help="Seconds for which sent messages stay in the tables.",
)
@server_options
@click.pass_context
def outbox(context: click.Context, /, **given: Any) -> None:
    """Send the messages of the outbox in a PostgreSQL, each after its transaction has committed, until SIGTERM.

    The messages of a room are sent in the order of the commits. Several readers may run.

    \b
    Examples:
      recado outbox sql | psql -1 postgresql://owner@db/shop
      RECADO_OUTBOX_DSN=postgresql://reader@db/shop API_KEY=... recado outbox --site shop --url https://push.example.com
      recado outbox list
    """
    if context.invoked_subcommand is None:
        _run(context.obj, given)
        return
    shown = [name for name in given if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if shown:
        raise Failure(f"{shown[0].replace('_', '-')}: expected options behind {context.invoked_subcommand!r}")


def _run(load: Load, /, given: dict[str, Any]) -> None:
    """Runs the reader."""
    config = load(given.pop("config_path"), given.pop("sites_path"))
    server: ServerChoice = given.pop("server")
    site, api_key, dsn = given.pop("site"), given.pop("api_key"), _given(given.pop("dsn"))
    api_keys = {name: one.api_key for name, one in config.sites.items() if site in (None, name)}
    if site is not None and api_key:
        api_keys[site] = api_key
    if not api_keys:
        raise Failure("there is no site to send to: expected --site with --api-key or API_KEY, or a site of sites.yml")
    options = ReaderOptions(dsn=dsn, sites=list(api_keys), **given)
    configure_logging(config.log_level, config.log_format)
    ignore_hangup()
    _perform(_read(options, server.found(lambda: config), api_keys))


async def _read(options: ReaderOptions, server: RunningServer, api_keys: dict[str, str]) -> None:
    door = SendDoor(server, api_keys)
    reader = OutboxReader(options, door)
    try:
        with obeyed_signals(lambda _: reader.end(), lambda: None):
            await reader.run()
    finally:
        door.close()


@outbox.command("sql")
@_schema_option
@click.option("--sender", default="recado_outbox_sender", show_default=True, help="The role that may send.")
@click.option("--reader", default="recado_outbox_reader", show_default=True, help="The role of this command.")
def print_sql(schema: str, sender: str, reader: str) -> None:
    """Print the SQL that makes the outbox: tables, the function recado_send, a trigger and two roles.

    \b
    Example:
      recado outbox sql | psql -1 postgresql://owner@db/shop
    """
    click.echo(install_sql(schema, sender, reader), nl=False)


@outbox.command("list")
@_database_options
@click.option("--site", help="Only messages to this site.")
@click.option("--waiting", is_flag=True, help="Those that wait, in place of those that are parked.")
@click.option("--limit", type=click.IntRange(1, _LONGEST_LIST), default=100, show_default=True, help="Most lines.")
def list_messages(dsn: str | None, schema: str, site: str | None, waiting: bool, limit: int) -> None:
    """List the messages that the server has refused for ever, with its reasons.

    \b
    Examples:
      recado outbox list --site shop
      recado outbox list --waiting
    """
    found = _ask(dsn, schema, lambda tables: tables.listed(not waiting, site, limit))
    click.echo(table(_HEADS, [_row(one) for one in found], None))


_HEADS = ("ID", "CREATED", "SITE", "ROOMS", "EVENT", "BYTES", "TRIES", "REASON")


def _row(one: OutboxLine) -> list[str]:
    at = rfc3339(round(one.created_at.timestamp() * 1000))
    return [
        str(one.id),
        at,
        one.site,
        ",".join(one.rooms[:10]),
        one.event,
        str(one.bytes),
        str(one.attempts),
        one.reason,
    ]


def _choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that choose parked messages."""
    ids = click.option("--id", "ids", type=int, multiple=True, help="Only this message; may be repeated.")
    return _database_options(ids(click.option("--site", help="Only messages to this site.")(command)))


@outbox.command()
@_choice_options
@click.option("--all", "is_all", is_flag=True, help="All of them, where neither --id nor --site is given.")
def discard(dsn: str | None, schema: str, ids: tuple[int, ...], site: str | None, is_all: bool) -> None:
    """Give parked messages up: they are never sent.

    \b
    Example:
      recado outbox discard --id 17
    """
    if not (ids or site or is_all):
        raise Failure("expected --id, --site or --all")
    count = _ask(dsn, schema, lambda tables: tables.discard(list(ids) or None, site))
    click.echo(f"OK {count} messages are given up")


@outbox.command()
@_choice_options
def retry(dsn: str | None, schema: str, ids: tuple[int, ...], site: str | None) -> None:
    """Send parked messages again, behind those that wait.

    \b
    Examples:
      recado outbox retry --site shop
      recado outbox retry --id 17
    """
    count = _ask(dsn, schema, lambda tables: tables.retry(list(ids) or None, site))
    click.echo(f"OK {count} messages wait again")


def _ask(dsn: str | None, schema: str, work: Callable[[OutboxTables], Awaitable[_Answer]]) -> _Answer:
    async def run(found: str) -> _Answer:
        async with connected(found, schema) as tables:
            return await work(tables)

    return _perform(run(_given(dsn)))


def _given(dsn: str | None) -> str:
    if not dsn:
        raise Failure("expected RECADO_OUTBOX_DSN, or --dsn, such as postgresql://user@host/name")
    return dsn


def _perform(work: Awaitable[_Answer]) -> _Answer:
    async def run() -> _Answer:
        return await work

    try:
        return asyncio.run(run())
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except (RecadoError, BackendError) as error:
        raise Failure(str(error)) from None
