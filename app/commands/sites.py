"""The commands `recado sites ...`: sites that are added and changed while nodes serve; and `recado reload`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from app.backends.auth_trial import AuthTrial, try_auth
from app.catalog.catalog import Catalog
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_facts import SiteOnNode, key_uses, on_nodes
from app.catalog.site_rules import MAX_BLOCK_BYTES, SiteRules
from app.catalog.sql_sites import SqlSites
from app.catalog.stored_site import key_name
from app.clock import rfc3339
from app.commands.failures import PROTOCOLS_KEY, ConfigFailure, Failure, Load, config_option, sites_option
from app.commands.site_door import show_table
from app.config.keys import Configured
from app.config.settings import Config, Site
from app.config.yaml_file import read_yaml_text
from app.errors import ConfigError, RecadoError
from app.node.location import running_redis
from app.redis.client import Commands
from app.redis.topology import new_redis

_NO_SQL = "DATABASE_URL is missing: the sites that are changed while nodes serve are in the journal's database"

_Answer = TypeVar("_Answer")


class _Opened(msgspec.Struct, frozen=True):
    """The stored sites, and the Redis of the nodes. Lives as long as the command."""

    config: Config
    catalog: Catalog
    redis: Commands
    rules: SiteRules


def _files(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.pass_obj(config_option(sites_option(command)))


@click.group()
def sites() -> None:
    """Add, change and remove sites while nodes serve. Every node follows within 2 seconds.

    The sites of sites.yml are changed there.
    """


@sites.command("list")
@_files
def list_(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """Show the stored sites.

    \b
    Example:
      recado sites list
    """
    found = _run(load, config_path, sites_path, lambda opened: opened.catalog.list_sites())
    rows = [(one.name, one.state, rfc3339(one.changed_at), len(one.keys)) for one in found]
    show_table(rows, "site", "state", "changed", "keys")


@sites.command()
@click.argument("name")
@click.option("--keys", "with_keys", is_flag=True, help="Show the API keys themselves, too.")
@_files
def show(load: Load, config_path: str | None, sites_path: str | None, name: str, with_keys: bool) -> None:
    """Show when the keys of a site were used, and how its authUrl does.

    \b
    Example:
      recado sites show newsite
    """
    site, uses, health = _run(load, config_path, sites_path, lambda opened: _facts(opened, name))
    keys: list[tuple[object, ...]] = []
    for key in site.keys:
        made, used = site.further.get(key_name(key)), uses.get(key_name(key))
        times = [rfc3339(at) if at else "-" for at in (made, used)]
        keys.append((key_name(key), *times, *([key] if with_keys else [])))
    show_table(keys, "key", "made", "used", *(["value"] if with_keys else []))
    if health:
        click.echo()
        rows = [
            (node, one.breaker, one.in_flight, one.waiting, one.asked, f"{one.ms:g}") for node, one in health.items()
        ]
        show_table(rows, "node", "authUrl", "in flight", "waiting", "asked", "ms")


@sites.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_files
def add(load: Load, config_path: str | None, sites_path: str | None, name: str, file: Path) -> None:
    """Add a site. FILE holds its block, as it would stand in sites.yml behind the name. Without an apiKey in it the
    site gets a new one, which is shown.

    \b
    Example:
      recado sites add newsite newsite.yml
    """
    block = _read_block(file)
    site = _run(load, config_path, sites_path, lambda opened: opened.catalog.add(name, block))
    click.echo(f"OK site {name} added" + ("" if "apiKey" in block else f", apiKey: {site.keys[0]}"))


@sites.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_files
def change(load: Load, config_path: str | None, sites_path: str | None, name: str, file: Path) -> None:
    """Give a site the block in FILE. Without an apiKey in it the keys stay.

    \b
    Example:
      recado sites change newsite newsite.yml
    """
    block = _read_block(file)
    _run(load, config_path, sites_path, lambda opened: opened.catalog.change(name, block))
    click.echo(f"OK site {name} changed")


@sites.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_files
def remove(load: Load, config_path: str | None, sites_path: str | None, name: str, yes: bool) -> None:
    """Remove a site: its connections are closed, and all that Redis holds of it goes.

    \b
    Example:
      recado sites remove oldsite
    """
    if not yes:
        click.confirm(f"Close the connections of site {name!r} and delete everything of it?", abort=True)
    _run(load, config_path, sites_path, lambda opened: opened.catalog.remove(name))
    click.echo(f"OK site {name} is being removed")


@sites.command("rotate-key")
@click.argument("name")
@_files
def rotate_key(load: Load, config_path: str | None, sites_path: str | None, name: str) -> None:
    """Make a new API key for a site, and show it. The old one is valid until `remove-key` takes it away.

    \b
    Example:
      recado sites rotate-key newsite
    """
    _, key = _run(load, config_path, sites_path, lambda opened: opened.catalog.add_key(name))
    click.echo(key)


@sites.command("remove-key")
@click.argument("name")
@click.argument("key")
@_files
def remove_key(load: Load, config_path: str | None, sites_path: str | None, name: str, key: str) -> None:
    """Take the API key KEY of a site away, named as in `recado sites show`.

    \b
    Example:
      recado sites remove-key newsite 3a7bd3e2360a
    """
    _run(load, config_path, sites_path, lambda opened: opened.catalog.remove_key(name, key))
    click.echo(f"OK key {key} of site {name} removed")


@sites.command("try")
@click.argument("name")
@click.option("--token", help="The token that a client would present.")
@click.option("--meta", help="The `meta` that a client would present.")
@_files
def try_(
    load: Load, config_path: str | None, sites_path: str | None, name: str, token: str | None, meta: str | None
) -> None:
    """Ask the authUrl of a site as for a client, and show the rooms.

    \b
    Example:
      recado sites try newsite --token 7f3a
    """
    trial = _run(load, config_path, sites_path, lambda opened: _try(opened, name, token, meta))
    if trial.rooms is None:
        raise Failure(f"refused after {trial.ms:g} ms: {trial.refusal}")
    click.echo(f"OK {len(trial.rooms)} rooms after {trial.ms:g} ms: {msgspec.json.encode(trial.rooms).decode()}")


@click.command()
@_files
def reload(load: Load, config_path: str | None, sites_path: str | None) -> None:
    """Have every node read its config.yml and sites.yml again, as SIGHUP does. Its log tells what it found.

    \b
    Example:
      recado reload
    """
    config = load(config_path, sites_path)
    _answered(_ask_reload(config))
    click.echo("OK every node reads its files again")


async def _ask_reload(config: Config) -> None:
    async with _redis_of(config) as redis:
        await RedisCopy(redis).ask_reload()


class _SiteKeys(msgspec.Struct, frozen=True):
    """The keys of one site, stored or of sites.yml. Lives as long as the command."""

    keys: list[str]
    further: dict[str, int]


async def _facts(opened: _Opened, name: str) -> tuple[_SiteKeys, dict[str, int], dict[str, SiteOnNode]]:
    site = opened.config.sites.get(name)
    if site is not None:
        keys = _SiteKeys(list(site.keys), {})
    else:
        stored = await opened.catalog.show(name)
        keys = _SiteKeys(stored.keys, stored.keys_made)
    return keys, await key_uses(opened.redis, name), await on_nodes(opened.redis, name)


async def _try(opened: _Opened, name: str, token: str | None, meta: str | None) -> AuthTrial:
    site = await _site(opened, name)
    if site.auth_url is None:
        raise Failure(f"site {name!r} has no authUrl")
    return await try_auth(site, token, meta, opened.config.auth_timeout_seconds)


async def _site(opened: _Opened, name: str) -> Site:
    known = opened.config.sites.get(name)
    return known or opened.rules.read(name, (await opened.catalog.show(name)).block)


def _auth_of(one: SiteOnNode) -> tuple[object, ...]:
    return one.breaker, one.in_flight, one.waiting, one.asked, f"{one.ms:g}"


def _read_block(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_BLOCK_BYTES:
        raise Failure(f"{file}: expected at most {MAX_BLOCK_BYTES} bytes")
    try:
        return read_yaml_text(file.read_bytes(), str(file))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigFailure(error) from None


def _run(
    load: Load,
    config_path: str | None,
    sites_path: str | None,
    ask: Callable[[_Opened], Awaitable[_Answer]],
) -> _Answer:
    config = load(config_path, sites_path)
    if config.journal_url is None:
        raise Failure(_NO_SQL)
    protocols = click.get_current_context().meta[PROTOCOLS_KEY]
    return _answered(_ask(config, config.journal_url, protocols, ask))


def _answered(asking: Awaitable[_Answer]) -> _Answer:
    async def answer() -> _Answer:
        return await asking

    try:
        return asyncio.run(answer())
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except RecadoError as error:
        raise Failure(str(error)) from None


async def _ask(
    config: Config, url: str, protocols: Sequence[Configured], ask: Callable[[_Opened], Awaitable[_Answer]]
) -> _Answer:
    rows = SqlSites.open(url)
    try:
        async with _redis_of(config) as redis:
            await rows.make_table()
            rules = SiteRules(config, protocols)
            return await ask(_Opened(config, Catalog(rows, RedisCopy(redis), rules), redis, rules))
    finally:
        await rows.close()


@asynccontextmanager
async def _redis_of(config: Config) -> AsyncIterator[Commands]:
    redis = new_redis(running_redis(config), config.redis_timeout_seconds)
    await redis.start()
    try:
        yield redis
    finally:
        await redis.close()
