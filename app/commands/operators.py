"""The commands about operators of the console: they work on the journal's database, also while no server runs."""

import os
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clock import rfc3339
from app.commands.failures import Failure, Load, config_option, sites_option
from app.commands.journal import in_database
from app.commands.tables import table
from app.config.keys import MAX_PASSWORD, MIN_PASSWORD, OPERATOR_NAME
from app.config.settings import Config
from app.console.operators import ROLES, Operator
from app.console.passwords import PasswordChecks
from app.console.sql_operators import SqlOperators
from app.journal.schema import upgrade_schema

#: The name in the audit for actions of this command.
_SHELL = "(shell)"
_RANDOM_BYTES = 18

_password_option = click.option(
    "--random-password", "is_random", is_flag=True, help="Make a random password, and print it."
)


@click.group()
def operator() -> None:
    """Make and remove the operators of the console.

    A password is asked for, or is RECADO_OPERATOR_PASSWORD.
    """


@operator.command()
@config_option
@sites_option
@click.option("--site", "sites", multiple=True, help="A site that the operator sees; may be repeated (default: all).")
@click.option("--role", type=click.Choice(list(ROLES)), default="operator", show_default=True)
@_password_option
@click.argument("name")
@click.pass_obj
def add(load: Load, /, config_path: str | None, sites_path: str | None, name: str, **given: Any) -> None:
    """Add an operator.

    \b
    Examples:
      recado operator add --role admin ana
      recado operator add --site shop --site news --role viewer ben
    """
    if not re.match(OPERATOR_NAME, name):
        raise Failure("NAME: expected at most 64 letters, digits and any of . _ @ -, first a letter or a digit")
    sites, role, password = given["sites"], given["role"], _password(given["is_random"])

    async def work(operators: SqlOperators) -> bool:
        return await operators.add(name, await _hash(password), ROLES[role], sites or None)

    if not _perform(load(config_path, sites_path), "operators.add", name, work):
        raise Failure(f"there is an operator {name!r}, or there are too many")
    click.echo(f"OK operator {name}, role {role}, {', '.join(sites) or 'every site'}")
    _tell_password(given["is_random"], password)


@operator.command("list")
@config_option
@sites_option
@click.pass_obj
def list_operators(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """List the operators."""
    found = in_database(load(config_path, sites_path), lambda engine: _list(SqlOperators(engine)))
    click.echo(table(("NAME", "ROLE", "SITES", "LAST USE"), [_row(one) for one in found], None))


@operator.command()
@config_option
@sites_option
@click.argument("name")
@click.pass_obj
def remove(load: Load, config_path: str | None, sites_path: str | None, name: str) -> None:
    """Remove an operator with its tokens. Its sessions end at once."""
    if not _perform(load(config_path, sites_path), "operators.remove", name, lambda one: one.remove(name)):
        raise Failure(f"there is no operator {name!r}")
    click.echo("OK")


@operator.command("password")
@config_option
@sites_option
@_password_option
@click.argument("name")
@click.pass_obj
def change_password(load: Load, config_path: str | None, sites_path: str | None, is_random: bool, name: str) -> None:
    """Give an operator another password. Its sessions end at once."""
    password = _password(is_random)

    async def work(operators: SqlOperators) -> bool:
        return await operators.change(name, ends_sessions=True, password_hash=await _hash(password))

    if not _perform(load(config_path, sites_path), "operators.change", name, work):
        raise Failure(f"there is no operator {name!r}")
    click.echo("OK")
    _tell_password(is_random, password)


def _perform(config: Config, action: str, name: str, work: Callable[[SqlOperators], Awaitable[bool]]) -> bool:
    """Does something with operators, and writes it down. The tables are made first if they are not there."""

    async def run(engine: AsyncEngine) -> bool:
        await upgrade_schema(engine)
        operators = SqlOperators(engine)
        if not await work(operators):
            return False
        await operators.add_audit(_SHELL, action, None, name, "")
        return True

    return in_database(config, run)


async def _list(operators: SqlOperators) -> list[Operator]:
    return list(await operators.list_operators())


async def _hash(password: str) -> str:
    passwords = PasswordChecks()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def _password(is_random: bool) -> str:
    if is_random:
        return secrets.token_urlsafe(_RANDOM_BYTES)
    given = os.environ.get("RECADO_OPERATOR_PASSWORD")
    password: str = given or click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Failure(f"password: expected {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return password


def _tell_password(is_random: bool, password: str) -> None:
    if is_random:
        click.echo(f"password: {password}")


def _row(one: Operator) -> list[str]:
    role = one.role.name.lower() + (", disabled" if one.is_disabled else "")
    sites = "every site" if one.caller.sites is None else ", ".join(sorted(one.caller.sites))
    return [one.name, role, sites, "never" if one.used_at is None else rfc3339(one.used_at)]
