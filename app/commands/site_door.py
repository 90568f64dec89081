"""A running server's doors for a site's backend, as commands use them: the site's key, an answer in JSON, a table."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from app.backends.exchange import BackendError
from app.backends.sender import RunningServer, ask
from app.commands.failures import Failure, Load, config_option, sites_option
from app.commands.tables import plain
from app.config.settings import Config


class ServerChoice(Struct, frozen=True):
    """The server that a command asks, and the certificates for it, as options name them. Lives as long as the
    command."""

    #: None: the one of the configuration, on this machine.
    url: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def found(self, read_config: Callable[[], Config]) -> RunningServer:
        """The server. Raises ConfigFailure."""
        files = {"ca": self.ca, "client_cert": self.cert, "client_key": self.key}
        if self.url is not None:
            return RunningServer(self.url, **files)
        config = read_config()
        return RunningServer(config.own_url, config.tls.cert, **files)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the running server to a command, which gets them as `server`."""

    @wraps(command)
    def call(*words: Any, url: str | None, ca: Path | None, cert: Path | None, key: Path | None, **given: Any) -> Any:
        return command(*words, server=ServerChoice(url, ca, cert, key), **given)

    wrapped: Callable[..., Any] = call
    for option in (
        _file_option("ca", "Certificates to trust instead of the system's, in PEM"),
        _file_option("key", "The key of --cert, where it is not in the same file"),
        _file_option("cert", "A certificate to show to a server that asks clients for one, in PEM"),
        click.option("--url", metavar="URL", help="The server (default: this machine, the configured port)."),
    ):
        wrapped = option(wrapped)
    return wrapped


def _file_option(name: str, text: str) -> Callable[..., Any]:
    variable = f"RECADO_CLIENT_{name.upper()}"
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option(f"--{name}", metavar="FILE", envvar=variable, type=kind, help=f"{text} (env {variable}).")


class DoorOptions(Struct, frozen=True):
    """The options of a command that asks a running server. Lives as long as the command."""

    load: Load
    config_path: str | None
    sites_path: str | None
    site_name: str
    server: ServerChoice
    api_key: str | None
    as_json: bool


def door_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets them with click's names: see `DoorOptions`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON."),
        click.option("--api-key", envvar="API_KEY", help="The site's key (env API_KEY; default: from sites.yml)."),
        server_options,
        click.option("--site", "site_name", required=True, help="Name of the site."),
        sites_option,
        config_option,
        click.pass_obj,
    ):
        command = option(command)
    return command


def ask_door(options: DoorOptions, method: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The server's answer. Raises Failure with the server's reason."""
    server, api_key = _server_of(options)
    try:
        answer = ask(server, method, path, {"site": options.site_name, **query}, api_key)
    except BackendError as error:
        raise Failure(f"no answer from {server.url}: {error}") from None
    except UnicodeEncodeError:
        raise Failure("the options: expected UTF-8") from None
    try:
        held = msgspec.json.decode(answer.text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        held = {}
    if answer.status != 200 or not held:
        raise Failure(f"the server answered {answer.status}: {plain(str(held.get('error', answer.text[:200])))}")
    return held


def show_table(rows: Sequence[Sequence[object]], *names: str) -> None:
    """Prints the rows below the names of their columns; nothing without rows."""
    if not rows:
        return
    lines = [list(names), *([_as_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _as_cell(value: object) -> str:
    """The value on one line, without characters that a terminal would obey."""
    text = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _server_of(options: DoorOptions) -> tuple[RunningServer, str]:
    read_config = partial(options.load, options.config_path, options.sites_path)
    return server_and_key(options.server, options.site_name, options.api_key, read_config)


def server_and_key(
    server: ServerChoice, site_name: str, api_key: str | None, read_config: Callable[[], Config]
) -> tuple[RunningServer, str]:
    """The running server and the site's key: as given, or as configured. Raises ConfigFailure, Failure."""
    read_once = cache(read_config)
    return server.found(read_once), api_key or configured_key(read_once(), site_name)


def configured_key(config: Config, site_name: str) -> str:
    """The key of a site of sites.yml. Raises Failure."""
    if site_name not in config.sites:
        raise Failure(f"site {site_name!r} is not configured here: expected --api-key, API_KEY or a site of sites.yml")
    return config.sites[site_name].api_key
