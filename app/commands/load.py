"""The commands `recado load ...`: runs of the load test on a running server, over its API."""

import json
import time
from typing import Any
from urllib.parse import quote

import click

from app.backends.exchange import BackendError
from app.backends.sender import call_api
from app.commands.failures import Failure, Load
from app.commands.site_door import ServerChoice, server_options, show_table
from app.load.plan import MAX_DEVICES, MAX_MESSAGES_OF_DEVICE, MAX_SECONDS

_POLL_SECONDS = 0.5
#: Connects, the last receipts, and the end of the process.
_MORE_SECONDS = 60.0
_UNITS = {"delivery_ms": "ms", "store_ms": "ms", "notify_ms": "ms"}


class _Api:
    """The API of a running server, with an operator's token. Lives as long as the command."""

    def __init__(self, load: Load, server: ServerChoice, token: str) -> None:
        self._server = server.found(lambda: load(None, None))
        self._token = token

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer as JSON. Raises Failure with the server's reason."""
        try:
            answer = call_api(self._server, method, f"/api/v1/load{path}", self._token, body)
        except BackendError as error:
            raise Failure(f"no answer from {self._server.url}: {error}") from None
        try:
            held = json.loads(answer.text)
        except ValueError:
            held = {}
        if answer.status != 200 or not isinstance(held, dict):
            reason = held.get("error") if isinstance(held, dict) else None
            raise Failure(f"the server answered {answer.status}: {reason or answer.text[:200]}")
        return held


def _of_server(command: Any) -> Any:
    for option in (
        server_options,
        click.option("--token", envvar="RECADO_TOKEN", required=True, help="Of an administrator (env RECADO_TOKEN)."),
        click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON."),
        click.pass_obj,
    ):
        command = option(command)
    return command


@click.group()
def load() -> None:
    """Put a load on a running server, and compare the results.

    The server brings up simulated devices of a site of its own; no tenant's client gets a message.
    """


@load.command("run")
@click.option(
    "--devices", type=click.IntRange(1, MAX_DEVICES), default=10, show_default=True, help="Simulated devices."
)
@click.option(
    "--messages",
    type=click.IntRange(1, MAX_MESSAGES_OF_DEVICE),
    default=10,
    show_default=True,
    help="Messages of each.",
)
@click.option("--seconds", type=click.IntRange(1, MAX_SECONDS), default=60, show_default=True, help="The longest run.")
@click.option("--site", default="", help="A site with a messenger: its users write to a room.")
@click.option(
    "--room", type=click.IntRange(0), default=0, help="A room of that site: the clients in it that take part write."
)
@click.option("--description", default="", help="A note that is kept beside the totals.")
@_of_server
def run(load: Load, as_json: bool, token: str, server: ServerChoice, **plan: Any) -> None:
    """Start a run, wait for it and show its totals.

    \b
    Example:
      recado load run --devices 100 --messages 20 --description "before the update"
      recado load run --site team --devices 3 --messages 1000
      recado load run --site team --room 7 --messages 50
    """
    api = _Api(load, server, token)
    id = api.ask("POST", "", plan)["id"]
    deadline = time.monotonic() + plan["seconds"] + _MORE_SECONDS
    while (found := api.ask("GET", f"/{id}"))["state"] == "running":
        if time.monotonic() > deadline:
            raise Failure(f"run {id} has not ended in time")
        time.sleep(_POLL_SECONDS)
    _show(found, as_json)
    if found["state"] != "done":
        raise Failure(f"run {id} {found['state']}: {(found['totals'] or {}).get('error', '')}")


@load.command("list")
@_of_server
def list_(load: Load, as_json: bool, token: str, server: ServerChoice) -> None:
    """Show the latest runs, newest first."""
    answer = _Api(load, server, token).ask("GET", "")
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [
        (
            one["id"],
            one["started_at"],
            one["state"],
            one["plan"]["devices"],
            one["plan"]["messages"],
            one["description"],
        )
        for one in answer["items"]
    ]
    show_table(rows, "run", "started", "state", "devices", "messages", "description")


@load.command("show")
@click.argument("id", type=int)
@_of_server
def show(load: Load, as_json: bool, token: str, server: ServerChoice, id: int) -> None:
    """Show the totals of the run ID."""
    _show(_Api(load, server, token).ask("GET", f"/{id}"), as_json)


@load.command("compare")
@click.argument("first", type=int)
@click.argument("second", type=int)
@_of_server
def compare(load: Load, as_json: bool, token: str, server: ServerChoice, first: int, second: int) -> None:
    """Show the totals of the runs FIRST and SECOND side by side."""
    answer = _Api(load, server, token).ask("GET", f"/{first}/compare?other={quote(str(second))}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [(row["total"], row["first"], row["second"], row["change_percent"]) for row in answer["rows"]]
    show_table(rows, "total", f"run {first}", f"run {second}", "change %")


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    totals = found["totals"] or {}
    counts, rates = totals.get("counts", {}), totals.get("per_second", {})
    show_table([(name, counts[name], rates[name]) for name in counts], f"run {found['id']}", "count", "a second")
    spreads = [(name, *totals[name].values()) for name in _UNITS if totals.get(name)]
    show_table(spreads, "time", "average", "least", "most", "p50", "p99")
