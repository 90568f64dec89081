"""The command `recado`: reads options and settings, calls the part that does the work, prints a failure as one line.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""

import asyncio
import os
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec
import structlog
from msgspec import Struct, structs

from app.backends.exchange import BackendError
from app.backends.sender import RunningServer, post_send, send_each
from app.commands import chat_import, journal, load, receipts
from app.commands.doctor import doctor
from app.commands.failures import PROTOCOLS_KEY, ConfigFailure, Failure, config_option, sites_option
from app.commands.operators import operator
from app.commands.outbox import outbox
from app.commands.site_door import ServerChoice, server_and_key, server_options
from app.commands.sites import reload, sites
from app.commands.users import room, user
from app.commands.webhooks import webhooks
from app.config.advice import warnings_of
from app.config.importing import Importer
from app.config.load import load_config
from app.config.settings import Config, Site
from app.config.sources import Sources
from app.errors import ConfigError, RecadoError
from app.node import run, workers
from app.node.build import check_together
from app.node.certificates import load_tls
from app.node.load_bench import run_devices
from app.node.purge import check_purge, purge
from app.node.signals import ignore_hangup
from app.observe.log import configure_logging
from app.protocols.listed import PROTOCOLS

_KEY_BYTES = 32
_PASSWORD_BYTES = 12
_MAX_IMPORT_BYTES = 100_000_000
_SECTIONS = [section for protocol in PROTOCOLS for section in protocol.sections]

_log = structlog.get_logger(__name__)


class SendOptions(Struct, frozen=True):
    """The options of `recado send`. Lives as long as the command; the fields have click's names of the options."""

    config_path: str | None
    sites_path: str | None
    site_name: str
    rooms: tuple[str, ...]
    event: str
    resync: bool
    server: ServerChoice
    api_key: str | None
    args: tuple[str, ...]


class ImportOptions(Struct, frozen=True):
    """The options of `recado import`. Lives as long as the command; the fields have click's names of the options."""

    config_path: str | None
    sites_path: str | None
    site_name: str
    owner: str | None
    dry_run: bool
    server: ServerChoice
    api_key: str | None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="recado", message="%(prog)s %(version)s")
@click.pass_context
def recado(context: click.Context) -> None:
    """Recado pushes messages from websites' backends to their users' browsers, and keeps what was not received."""
    context.obj = _load
    context.meta[PROTOCOLS_KEY] = PROTOCOLS


@recado.command()
@config_option
@sites_option
@click.option("--host", metavar="ADDRESS", help="Address to listen on (env HOST; default 0.0.0.0, --demo 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 picks a free one (env PORT).")
@click.option("--demo", is_flag=True, help="Add the site 'demo' and the page /demo to try things out.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the embedded server keeps its data.")
@click.option(
    "--workers", type=click.IntRange(1, 256), metavar="N", help="Processes on the port (env RECADO_WORKERS; default 1)."
)
def serve(config_path: str | None, sites_path: str | None, demo: bool, **settings: Any) -> None:
    """Run the server until it gets SIGTERM or Ctrl-C. SIGHUP has it read its files again.

    \b
    Examples:
      recado serve --demo
      PORT=8080 REDIS_URL=redis://localhost recado serve --sites /etc/recado/sites.yml
      recado serve --workers 4
    """
    given = {name: value for name, value in settings.items() if value is not None}
    sources = Sources(config_path=config_path, sites_path=sites_path, given=given, has_demo=demo)
    try:
        config = run.read_config(sources, PROTOCOLS)
    except ConfigError as error:
        raise ConfigFailure(error) from None
    if demo:
        config, sources = _with_operator(config, sources)
    configure_logging(config.log_level, config.log_format)
    ignore_hangup()
    if config.sites or not demo:
        for warning in warnings_of(config, _SECTIONS):
            _log.warning("configuration", reason=warning)
    run.tell_missing_bundles()
    run.tell_missing_journal(config)
    try:
        if config.workers > 1:
            workers.supervise(config, sources, run.reader_of(sources, PROTOCOLS))
        else:
            run.run(config, PROTOCOLS, sources)
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except RecadoError as error:
        raise Failure(str(error)) from None


def _with_operator(config: Config, sources: Sources) -> tuple[Config, Sources]:
    """The settings of a demo with an operator for the run; as they were if they name one."""
    if not config.console.is_on or config.console.operator is not None or config.journal_url is None:
        return config, sources
    console = structs.replace(config.console, operator="demo", operator_password=secrets.token_urlsafe(_PASSWORD_BYTES))
    # Reloads read the same settings.
    sources = structs.replace(sources, given={**sources.given, "console": console})
    return structs.replace(config, console=console), sources


@recado.command(hidden=True)
def worker() -> None:
    """Serve one worker of `serve --workers`, which starts this command and writes its settings to stdin."""
    sys.exit(workers.work(partial(run.serve, PROTOCOLS)))


@recado.command("load-devices", hidden=True)
def load_devices() -> None:
    """Be the devices of a run of the load test; a node starts this command and writes the run to stdin."""
    sys.exit(run_devices())


@recado.command("check-config")
@config_option
@sites_option
def check_config(config_path: str | None, sites_path: str | None) -> None:
    """Check the configuration and name what is wrong.

    \b
    Examples:
      recado check-config
      APP_ENV=staging recado check-config --sites new-sites.yml
    """
    config = _load(config_path, sites_path)
    _check(config)
    store = "Redis" if config.redis_url else f"embedded server in {config.data_dir}"
    click.echo(f"OK environment {config.environment}: port {config.port}, {store}, sites: {len(config.sites)}")
    if config.tls.is_on:
        click.echo(f"OK tls: {_certificate_of(config)}")
    if config.journal_url is not None:
        kind, days = config.journal_url.partition(":")[0], config.journal.days("messages")
        click.echo(f"OK journal: {kind}, messages are kept {days:g} days")
    for site in config.sites.values():
        click.echo(f"OK site {site.name}: {_describe(site)}")
        for section in _SECTIONS:
            settings = site.section(section.settings)
            if settings is not None:
                click.echo(f"OK site {site.name}: {section.key}: {section.describe(settings)}")
    for warning in warnings_of(config, _SECTIONS):
        click.echo(f"WARNING {warning}")


@recado.command()
@config_option
@sites_option
@click.option("--site", "site_name", required=True, help="Name of the site.")
@click.option("--room", "rooms", required=True, multiple=True, help="Room to send to; may be repeated.")
@click.option("--event", required=True, help="Name of the event.")
@click.option("--resync", is_flag=True, help="Have clients that missed an earlier message of this event start afresh.")
@server_options
@click.option("--api-key", envvar="API_KEY", help="The site's key (env API_KEY; default: from sites.yml).")
@click.argument("args", nargs=-1)
def send(**given: Any) -> None:
    """Send an event to rooms of a site.

    ARGS are the event's arguments; the message goes through a running server.

    An argument that is JSON is sent as such, any other as text. Put -- before arguments that begin with a dash.

    \b
    Examples:
      recado send --site newsite --room user_8 --event news '{"id": 3}' hello
      recado send --site newsite --room all --event score --resync -- -1
    """
    options = SendOptions(**given)
    server, api_key = _server_of(options)
    try:
        answer = post_send(server, options.site_name, api_key, _send_body(options), resync=options.resync)
    except BackendError as error:
        raise Failure(f"no answer from {server.url}: {error}") from None
    if answer.status != 200:
        raise Failure(f"the server answered {answer.status}: {answer.text}")
    click.echo(answer.text)


@recado.group("import")
def import_() -> None:
    """Take over data of a server that Recado replaces. An import may be repeated.

    \b
    Examples:
      recado import es-web-notify --site shop registered_endpoints.sql
      recado import push0k --site team --files atach postgresql://localhost/push0k
    """


import_.add_command(chat_import.push0k)


def _add_import(protocol: str, importer: Importer) -> None:
    @import_.command(importer.name, help=importer.help)
    @config_option
    @sites_option
    @click.option("--site", "site_name", required=True, help="Name of the site.")
    @click.option("--owner", metavar="USER", help="The owner of topics that have none.")
    @click.option("--dry-run", is_flag=True, help="Read the file and say what would be done.")
    @server_options
    @click.option("--api-key", envvar="API_KEY", help="The site's key (env API_KEY; default: from sites.yml).")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def command(file: Path, **given: Any) -> None:
        _import(protocol, importer, file, ImportOptions(**given))


for _protocol in PROTOCOLS:
    for _importer in _protocol.importers:
        _add_import(_protocol.name, _importer)


def _import(protocol: str, importer: Importer, file: Path, options: ImportOptions) -> None:
    try:
        plan = importer.read(_read_bounded(file), options.owner)
    except ConfigError as error:
        raise Failure(f"{file}: {error}") from None
    for note in plan.notes:
        click.echo(f"WARNING {note}")
    if options.dry_run:
        click.echo(f"OK {file}: {len(plan.requests)} to import, nothing was changed")
        return
    server, api_key = _server_of(options)
    place = f"/{protocol}/{quote(options.site_name, safe='')}"
    requests = [(request.method, request.path, request.body) for request in plan.requests]
    try:
        answers = send_each(server, place, api_key, requests)
        for number, (request, answer) in enumerate(zip(plan.requests, answers, strict=True)):
            if not 200 <= answer.status < 300:
                raise Failure(f"{request.subject}: the server answered {answer.status}: {answer.text} ({number} done)")
    except BackendError as error:
        raise Failure(f"no answer from {server.url}: {error}; the import may be repeated") from None
    click.echo(f"OK {file}: {len(plan.requests)} imported into site {options.site_name}")


def _read_bounded(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    if len(data) > _MAX_IMPORT_BYTES:
        raise Failure(f"{file}: expected at most {_MAX_IMPORT_BYTES} bytes; dump only the table that is imported")
    return data


@recado.command("purge")
@config_option
@sites_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("site_name", metavar="SITE")
def purge_site(config_path: str | None, sites_path: str | None, yes: bool, site_name: str) -> None:
    """Delete what Redis holds of SITE, which is in sites.yml no more.

    All its waiting messages, devices, channels and registered topics go. Nothing brings them back.

    \b
    Example:
      recado purge oldsite
    """
    config = _load(config_path, sites_path)
    try:
        asyncio.run(check_purge(config, site_name))
    except RecadoError as error:
        raise Failure(str(error)) from None
    if not yes:
        click.confirm(f"Delete everything of site {site_name!r}?", abort=True)
    try:
        click.echo(f"OK {asyncio.run(purge(config, site_name))} keys deleted")
    except RecadoError as error:
        raise Failure(str(error)) from None


for _command in (
    *journal.COMMANDS,
    *receipts.COMMANDS,
    webhooks,
    load.load,
    doctor,
    sites,
    reload,
    operator,
    user,
    room,
):
    recado.add_command(_command)
recado.add_command(outbox)


@recado.group()
def keys() -> None:
    """Make API keys."""


@keys.command("new")
def new_key() -> None:
    """Print a new random API key, to be put into sites.yml as apiKey.

    \b
    Example:
      recado keys new
    """
    click.echo(secrets.token_urlsafe(_KEY_BYTES))


def main() -> None:
    """The entry point of the command and of `python -m app`."""
    recado(prog_name="recado")


def _load(config_path: str | None, sites_path: str | None) -> Config:
    try:
        return load_config(config_path, sites_path, os.environ, PROTOCOLS)
    except ConfigError as error:
        raise ConfigFailure(error) from None


def _server_of(options: SendOptions | ImportOptions) -> tuple[RunningServer, str]:
    read_config = partial(_load, options.config_path, options.sites_path)
    return server_and_key(options.server, options.site_name, options.api_key, read_config)


def _check(config: Config) -> None:
    try:
        check_together(config)
    except ConfigError as error:
        raise ConfigFailure(error) from None


def _certificate_of(config: Config) -> str:
    try:
        found = load_tls(config.tls).certificate
    except ConfigError as error:
        raise ConfigFailure(error) from None
    return f"{found.subject} for {', '.join(found.names)}, until {found.valid_until:%Y-%m-%d}"


def _describe(site: Site) -> str:
    if not site.has_queues:
        return "no queues (no userRoomPrefix)"
    lifetime = f"{site.device_ttl_seconds} s" if site.device_ttl_seconds else "without end"
    return f"queues for rooms that begin with {site.user_room_prefix!r}, kept {lifetime} after a disconnect"


def _send_body(options: SendOptions) -> bytes:
    args = [_json_or_text(arg) for arg in options.args]
    try:
        return msgspec.json.encode({"rooms": options.rooms, "event": options.event, "args": args})
    except UnicodeEncodeError:
        raise Failure("room, event and arguments: expected UTF-8") from None


def _json_or_text(arg: str) -> object:
    try:
        return msgspec.json.decode(arg)
    except msgspec.DecodeError:
        return arg
