"""The commands that ask a running server with a site's key: messages, devices, trace."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

import click
import msgspec
from msgspec import Struct

from app.clock import rfc3339
from app.commands.failures import Failure, Load, config_option, sites_option
from app.commands.site_door import DoorOptions, ServerChoice, ask_door, server_options
from app.commands.tables import plain, table

#: The items that a command shows at most; it fetches them page by page.
_MAX_ITEMS = 10_000
_PAGE = 1_000
_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: The states of a summary in the order of a message's life, without those that are 0.
_SHOWN = ("waiting", "written", "acked", "expired", "replaced", "settled", "withdrawn", "resynced")

_Command: TypeAlias = Callable[..., None]


class Asking(Struct, frozen=True):
    """The options that the commands share. Lives as long as the command; the fields have click's names."""

    config_path: str | None
    sites_path: str | None
    site_name: str
    server: ServerChoice
    api_key: str | None
    limit: int
    as_json: bool


def _shared(command: _Command) -> _Command:
    """Adds the options that the commands share."""
    options = (
        config_option,
        sites_option,
        click.option("--site", "site_name", required=True, help="Name of the site."),
        click.option("--limit", type=click.IntRange(1, _MAX_ITEMS), default=100, show_default=True, help="Most lines."),
        click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON, one line a page."),
        server_options,
        click.option("--api-key", envvar="API_KEY", help="The site's key (env API_KEY; default: from sites.yml)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_shared
@click.option("--room", help="Only messages to this room.")
@click.option("--user", metavar="ROOM", help="Only messages to the user with this user room.")
@click.option("--event", help="Only messages with this event.")
@click.option("--state", type=click.Choice(_SHOWN), help="Only messages that are in this state at some device.")
@click.option("--since", metavar="TIME", help="Accepted since this time (2026-11-27T10:00:00Z) or span (30m, 2h, 7d).")
@click.option("--until", metavar="TIME", help="Accepted until this time, or before this span.")
@click.argument("message_id", metavar="[ID]", required=False)
@click.pass_obj
def messages(load: Load, /, message_id: str | None, **given: Any) -> None:
    """List the messages of a site, newest first; or show what became of one, with its ID, at each device.

    \b
    Examples:
      recado messages --site newsite --state waiting
      recado messages --site newsite --user user_8 --since 2h
      recado messages --site newsite 7190012345678901234
    """
    asking, filters = _split(given)
    if message_id is not None:
        _show(load, asking, f"/messages/{quote(message_id, safe='')}", {}, "devices", _DELIVERIES)
        return
    for name in ("since", "until"):
        filters[name] = _time(filters[name])
    _show(load, asking, "/messages", filters, "messages", _MESSAGES)


@click.command()
@_shared
@click.option("--user", metavar="ROOM", required=True, help="The user room, such as user_8.")
@click.option("--device", help="Show what waits for this device of the user.")
@click.pass_obj
def devices(load: Load, /, device: str | None, **given: Any) -> None:
    """List the devices of a user, or what waits for one of them.

    \b
    Examples:
      recado devices --site newsite --user user_8
      recado devices --site newsite --user user_8 --device 090909
    """
    asking, filters = _split(given)
    if device is None:
        _show(load, asking, "/devices", filters, "devices", _DEVICES)
    else:
        _show(load, asking, "/devices/queue", filters | {"device": device}, "messages", _QUEUE)


@click.command()
@_shared
@click.option("--device", help="Only this device of the user.")
@click.option("--since", metavar="TIME", help="Since this time or span (2h, 7d). Default: a day.")
@click.argument("user", metavar="USER")
@click.pass_obj
def trace(load: Load, /, user: str, **given: Any) -> None:
    """Show what happened to USER, a user room, in order of time: why a message did not arrive.

    \b
    Examples:
      recado trace --site newsite user_8
      recado trace --site newsite user_8 --since 2h --json
    """
    asking, filters = _split(given)
    filters["since"] = _time(filters["since"])
    if asking.limit > _PAGE:
        raise Failure(f"--limit: expected at most {_PAGE} lines of a trace")
    _show(load, asking, "/trace", filters | {"user": user}, "lines", _LINES)


class _Columns(Struct, frozen=True):
    """A table: the heads of its columns, and the texts of an item."""

    heads: tuple[str, ...]
    texts: Callable[[Mapping[str, Any]], Sequence[str]]


def _summary(message: Mapping[str, Any]) -> str:
    counts = message["summary"]
    return ", ".join(f"{counts[state]} {state}" for state in _SHOWN if counts.get(state)) or "nobody"


_MESSAGES = _Columns(
    ("ACCEPTED", "ID", "EVENT", "BYTES", "DEVICES", "ROOMS"),
    lambda one: (
        one["accepted_at"],
        one["id"] or "",
        one["event"],
        str(one["bytes"]),
        _summary(one),
        ",".join(one["rooms"]),
    ),
)
_DELIVERIES = _Columns(
    ("USER", "DEVICE", "STATE", "WRITTEN", "ACKED", "MS", "REASON"),
    lambda one: (
        one["user"],
        one["device"],
        one["state"],
        one["written_at"] or "",
        one["acked_at"] or "",
        str(one.get("ms", "")),
        one["reason"],
    ),
)
_DEVICES = _Columns(
    ("DEVICE", "STATE", "SINCE", "NODE", "TRANSPORT", "QUEUE", "BYTES", "LAST ACK", "CLIENT"),
    lambda one: (
        one["device"],
        one["state"],
        one["connected_since"] or one["away_since"] or "",
        one["node"] or "",
        one["transport"] or "",
        str(one["queue"]["messages"]),
        str(one["queue"]["bytes"] if one["queue"]["bytes"] is not None else ""),
        one["last_ack"] or "",
        f"Engine.IO {one['client']['engine']}, {one['client']['user_agent']}" if one["client"] else "",
    ),
)
_QUEUE = _Columns(
    ("ACCEPTED", "ID", "EVENT", "BYTES", "AGE"),
    lambda one: (one["accepted_at"], one["id"] or "", one["event"], str(one["bytes"]), f"{one['age_seconds']:.0f} s"),
)
_LINES = _Columns(("AT", "DEVICE", "WHAT"), lambda one: (one["at"], one.get("device", ""), one["text"]))


def _split(given: Mapping[str, Any]) -> tuple[Asking, dict[str, str | None]]:
    """The shared options, and the filters."""
    shared = {name: given[name] for name in Asking.__struct_fields__}
    return Asking(**shared), {name: value for name, value in given.items() if name not in shared}


def _time(text: str | None) -> str | None:
    """A time as the server reads it: a span counts back from now."""
    span = _SPAN.fullmatch(text or "")
    if span is None:
        return text
    moment = datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    return rfc3339(round(moment.timestamp() * 1000))


def _show(
    load: Load, asking: Asking, path: str, filters: Mapping[str, str | None], items: str, columns: _Columns
) -> None:
    """Asks for pages until there are enough items, and prints them."""
    found: list[Mapping[str, Any]] = []
    last: Mapping[str, Any] = {}
    for last in _pages(load, asking, path, filters, items):
        if asking.as_json:
            click.echo(msgspec.json.encode(last).decode())
        found += last[items]
    if asking.as_json:
        return
    if "summary" in last:
        message = f"{last['id']} {last['event']} accepted {last['accepted_at']}: {_summary(last)}"
        click.echo(plain(message))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(table(columns.heads, [columns.texts(item) for item in found], width))
    if last.get("partial"):
        click.echo("only what waits is known, or the journal is behind", err=True)
    if last.get("cursor") or last.get("has_more"):
        click.echo(f"there are more than {len(found)}: see --limit", err=True)


def _pages(
    load: Load, asking: Asking, path: str, filters: Mapping[str, str | None], items: str
) -> Iterator[Mapping[str, Any]]:
    door = DoorOptions(
        load,
        asking.config_path,
        asking.sites_path,
        asking.site_name,
        asking.server,
        asking.api_key,
        asking.as_json,
    )
    query = {name: value for name, value in filters.items() if value is not None}
    left: int = asking.limit
    while True:
        page = ask_door(door, "GET", path, query | {"limit": str(min(left, _PAGE))})
        yield page
        left -= len(page[items])
        if left <= 0 or not page.get("cursor"):
            return
        query["cursor"] = page["cursor"]


COMMANDS: tuple[click.Command, ...] = (messages, devices, trace)
