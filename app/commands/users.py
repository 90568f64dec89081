"""The commands about users and rooms of a messenger: they work on the journal's database, also while servers run."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.commands.failures import Failure, Load, config_option, sites_option
from app.commands.tables import table
from app.config.settings import Config, Site
from app.errors import RecadoError
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_PASSWORD_CHARACTERS
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_users import (
    NewUser,
    add_user,
    find_login,
    list_users,
    set_password,
    update_user,
)
from app.protocols.messenger.operations.journal_listed_rooms import (
    RoomFilter,
    count_members,
    find_rooms,
    rooms_listed,
)
from app.protocols.messenger.operations.journal_pages import PagePlace
from app.protocols.messenger.scram import Keys, keys_of
from app.protocols.messenger.settings import Messenger, is_beside

#: The name in the history for changes of these commands.
_SHELL = "shell"
_RANDOM_BYTES = 18
#: The database is waited for this long.
_SECONDS = 15.0
#: The rooms of one question.
_PAGE = 500

_Answer = TypeVar("_Answer")
#: Takes a transaction and the site's id.
_Work = Callable[[AsyncConnection, int], Awaitable[_Answer]]

_site_option = click.option("--site", "site_name", required=True, help="The site with the messenger.")
_login_option = click.option("--login", required=True, help="The name with which the user logs in.")
_stdin_option = click.option("--password-stdin", "is_piped", is_flag=True, help="Read the password from stdin.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


@click.group()
def user() -> None:
    """Make and change the users of a messenger.

    A password is asked for on a terminal, or read with --password-stdin; else one is made and printed, and the user has
    to set another one first.
    """


@user.command()
@config_option
@sites_option
@_site_option
@_login_option
@click.option("--name", default="", help="The name that others see (default: the login).")
@click.option("--admin", "is_admin", is_flag=True, help="The user may make and change users and rooms.")
@_stdin_option
@_json_option
@click.pass_obj
def add(load: Load, /, config_path: str | None, sites_path: str | None, site_name: str, **given: Any) -> None:
    """Add a user.

    \b
    Examples:
      recado user add --site talk --login ana --admin
      echo "$PASSWORD" | recado user add --site talk --login ben --password-stdin
    """
    config, site = messenger_of(load(config_path, sites_path), site_name)
    if is_beside(site):
        raise Failure("the users of this site are those of its backend: they come by themselves")
    password, is_made = _password(given["is_piped"])
    keys = _keys(site, password)

    async def work(sql: AsyncConnection, site_id: int) -> ChatUser:
        new = NewUser(
            login=given["login"], keys=keys, name=given["name"], is_admin=given["is_admin"], must_change=is_made
        )
        return await add_user(sql, site_id, new, _SHELL)

    made = _perform(config, site, work)
    if given["as_json"]:
        told = {"password": password} if is_made else {}
        click.echo(msgspec.json.encode(made.shown | told).decode())
        return
    click.echo(f"OK user {made.login}, id {made.id}{', admin' if made.is_admin else ''}")
    _tell(password, is_made)


@user.command("list")
@config_option
@sites_option
@_site_option
@_json_option
@click.pass_obj
def list_all(load: Load, config_path: str | None, sites_path: str | None, site_name: str, as_json: bool) -> None:
    """List the users."""
    config, site = messenger_of(load(config_path, sites_path), site_name)
    found = _perform(config, site, list_users)
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one.shown).decode())
        return
    click.echo(table(("ID", "LOGIN", "NAME", "STATE"), [_row(one) for one in found], None))


@user.command()
@config_option
@sites_option
@_site_option
@_login_option
@click.pass_obj
def disable(load: Load, config_path: str | None, sites_path: str | None, site_name: str, login: str) -> None:
    """Disable a user: its sessions end within seconds, and it cannot log in."""
    _set_disabled(load(config_path, sites_path), site_name, login, True)


@user.command()
@config_option
@sites_option
@_site_option
@_login_option
@click.pass_obj
def enable(load: Load, config_path: str | None, sites_path: str | None, site_name: str, login: str) -> None:
    """Take the disabling of a user back."""
    _set_disabled(load(config_path, sites_path), site_name, login, False)


@user.command("password")
@config_option
@sites_option
@_site_option
@_login_option
@_stdin_option
@click.pass_obj
def change_password(
    load: Load, config_path: str | None, sites_path: str | None, site_name: str, login: str, is_piped: bool
) -> None:
    """Give a user another password. Its sessions end within seconds."""
    config, site = messenger_of(load(config_path, sites_path), site_name)
    password, is_made = _password(is_piped)
    keys = _keys(site, password)

    async def work(sql: AsyncConnection, site_id: int) -> None:
        await set_password(sql, site_id, await _id_of(sql, site_id, login), keys, must_change=is_made)

    _perform(config, site, work)
    click.echo("OK")
    _tell(password, is_made)


@click.group()
def room() -> None:
    """Look at the rooms of a messenger."""


@room.command("list")
@config_option
@sites_option
@_site_option
@_json_option
@click.pass_obj
def list_rooms(load: Load, config_path: str | None, sites_path: str | None, site_name: str, as_json: bool) -> None:
    """List the rooms."""
    config, site = messenger_of(load(config_path, sites_path), site_name)
    found = _perform(config, site, _rooms)
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one).decode())
        return
    rows = [[str(one["id"]), one["name"], one["kind"], str(one["members"]), _state(one)] for one in found]
    click.echo(table(("ID", "NAME", "KIND", "MEMBERS", "STATE"), rows, None))


async def _rooms(sql: AsyncConnection, site_id: int) -> list[dict[str, Any]]:
    """The rooms of a site with the numbers of their members, in the order of their ids."""
    found: list[dict[str, Any]] = []
    place: int | None = None
    while True:
        page = await find_rooms(sql, site_id, RoomFilter(), PagePlace(place, _PAGE))
        counts = await count_members(sql, site_id, page.ids)
        for row in await rooms_listed(sql, site_id, page.ids):
            members, admins = counts.get(row.id, (0, 0))
            shown = {"id": row.id, "name": row.name, "kind": row.kind, "archived": row.is_archived}
            found.append(shown | {"members": members, "admins": admins})
        if page.last is None:
            return found
        place = page.last


def _state(one: dict[str, Any]) -> str:
    return "archived" if one["archived"] else ""


def _set_disabled(config: Config, site_name: str, login: str, is_disabled: bool) -> None:
    config, site = messenger_of(config, site_name)

    async def work(sql: AsyncConnection, site_id: int) -> None:
        user_id = await _id_of(sql, site_id, login)
        await update_user(sql, site_id, user_id, {"is_disabled": is_disabled}, _SHELL)

    _perform(config, site, work)
    click.echo("OK")


async def _id_of(sql: AsyncConnection, site_id: int, login: str) -> int:
    row = await find_login(sql, site_id, login)
    if row is None:
        raise Failure(f"there is no user {login!r}")
    return int(row.id)


def messenger_of(config: Config, name: str) -> tuple[Config, Site]:
    """The settings, and a site with a messenger. Raises Failure."""
    if config.journal_url is None:
        raise Failure("there is no journal: expected database_url or DATABASE_URL")
    site = config.sites.get(name)
    if site is None or site.section(Messenger) is None:
        raise Failure(f"--site: expected a site of sites.yml with a messenger, not {name!r}")
    return config, site


def _perform(config: Config, site: Site, work: _Work[_Answer]) -> _Answer:
    """The answer of some work in one transaction of the site. The tables are made first if they are not there."""

    async def run(url: str) -> _Answer:
        store = ChatSql.open(url)
        try:
            async with asyncio.timeout(_SECONDS):
                await store.make_tables()
            async with store.writing(site) as place:
                return await work(*place)
        finally:
            await store.close()

    assert config.journal_url is not None, "see messenger_of"
    try:
        return asyncio.run(run(config.journal_url))
    except TimeoutError:
        raise Failure("the journal's database does not answer") from None
    except RecadoError as error:
        raise Failure(str(error)) from None


def _password(is_piped: bool) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    if is_piped:
        password = sys.stdin.readline().rstrip("\r\n")
    elif _is_terminal():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        return secrets.token_urlsafe(_RANDOM_BYTES), True
    if not 1 <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise Failure(f"password: expected 1 to {MAX_PASSWORD_CHARACTERS} characters")
    return password, False


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _keys(site: Site, password: str) -> Keys:
    try:
        return keys_of(password, site.require_section(Messenger).iterations)
    except ChatRefusal as refusal:
        raise Failure(str(refusal)) from None


def _tell(password: str, is_made: bool) -> None:
    if is_made:
        click.echo(f"password: {password}")


def _row(one: ChatUser) -> list[str]:
    states = [name for name, holds in (("admin", one.is_admin), ("disabled", one.is_disabled)) if holds]
    return [str(one.id), one.login, one.name, ", ".join(states)]
