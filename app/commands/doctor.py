"""The command `recado doctor`: looks at a server from outside and names the lines to change."""

import asyncio
import re
import ssl
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from app.commands.failures import ConfigFailure, Failure, Load, config_option, sites_option
from app.config.settings import Config
from app.doctor.examination import ExaminationOrder, examine
from app.doctor.finding import FAULT, OK, SKIPPED, WARNING, Finding, has_fault
from app.doctor.stores import look_at_redis
from app.doctor.target import ProbeTarget, read_target
from app.errors import ConfigError, RecadoError
from app.node.location import running_redis
from app.observe.log import configure_logging

_MARKS = {OK: "OK  ", SKIPPED: "-   ", WARNING: "WARN", FAULT: "BAD "}
#: Sites of the configuration that are asked for a stream.
_SITES_TRIED = 3
_WAIT_SECONDS = 30
_ANSWER_SECONDS = 10
_ORIGIN = re.compile(r"https?://[!-.0-~]{1,256}", re.ASCII)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Wanted(Struct, frozen=True):
    """The options of the command. Lives as long as it; the fields have click's names."""

    site: str | None
    origin: str | None
    ca: Path | None
    wait: float
    timeout: float
    as_json: bool


def _check_origin(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _ORIGIN.fullmatch(value):
        raise click.BadParameter("expected http:// or https:// with a host, and no path")
    return value


@click.command()
@config_option
@sites_option
@click.option("--site", help="A site to join, and to ask for a stream of topics.")
@click.option(
    "--origin", callback=_check_origin, help="The origin of a page of that site, such as https://www.example.com."
)
@click.option("--ca", type=_file, help="Certificates to trust in place of the system's, in PEM.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 600),
    default=_WAIT_SECONDS,
    show_default=True,
    help="Most seconds to wait for a ping; 0: how long a connection may be silent is not looked at.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(1, 60),
    default=_ANSWER_SECONDS,
    show_default=True,
    help="Most seconds to wait for an answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.argument("url", required=False)
@click.pass_obj
def doctor(load: Load, /, url: str | None, config_path: str | None, sites_path: str | None, **given: Any) -> None:
    """Look at a server from outside, and say what is wrong with the way in and which line to change.

    URL is the address that pages and backends use; without it, this machine's. No key is needed. Where the
    configuration is at hand, Redis is looked at too. The exit code is 1 when something is wrong.

    \b
    Examples:
      recado doctor https://push.example.com
      recado doctor https://push.example.com --site shop --origin https://www.example.com
      recado doctor --json
    """
    wanted = _Wanted(**given)
    config = load(config_path, sites_path)
    try:
        target = read_target(url or config.own_url, _trust_of(wanted.ca, is_own=url is None), wanted.timeout)
    except ConfigError as error:
        raise ConfigFailure(error) from None
    # Findings say what the log lines would.
    configure_logging("error", "json")
    findings = asyncio.run(_examine(wanted, target, config, is_own=url is None))
    click.echo(_as_json(target, findings) if wanted.as_json else "\n".join(lines_of(findings)))
    sys.exit(1 if has_fault(findings) else 0)


async def _examine(wanted: _Wanted, target: ProbeTarget, config: Config, *, is_own: bool) -> list[Finding]:
    sites = [wanted.site] if wanted.site is not None else list(config.sites)[:_SITES_TRIED]
    order = ExaminationOrder(target, sites, wanted.site, wanted.origin, wanted.wait)
    way_in, store = await asyncio.gather(examine(order), _look_at_redis(config))
    if is_own:
        # The port itself publishes everything.
        way_in = [finding for finding in way_in if finding.check != "published"]
    return [*way_in, *store]


async def _look_at_redis(config: Config) -> list[Finding]:
    try:
        location = running_redis(config)
    except RecadoError:
        return [Finding("redis", SKIPPED, "not looked at: the configuration here names none, and none runs here")]
    return await look_at_redis(location)


def _trust_of(ca: Path | None, *, is_own: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError):
        raise Failure(f"{ca}: expected certificates in PEM") from None
    if is_own:
        # The certificate is for the name that clients use.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings for a terminal, each with the lines to change below it, and their sum."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        yield f"{_MARKS[finding.state]} {finding.check.ljust(width)}  {finding.text}"
        for change in finding.change:
            yield f"       {change.where}: {change.line}"
    count = sum(finding.state == FAULT for finding in findings)
    yield "all is well" if not count else f"{count} to mend"


def _as_json(target: ProbeTarget, findings: list[Finding]) -> str:
    held = {"url": target.url, "ok": not has_fault(findings), "findings": findings}
    return msgspec.json.format(msgspec.json.encode(held)).decode()
