"""The commands `recado webhooks list|retry|test`: a site's webhook, through a running server."""

from collections.abc import Iterable
from typing import Any

import click
import msgspec

from app.commands.failures import Failure, Load
from app.commands.site_door import DoorOptions, ask_door, door_options, show_table

#: The characters of an answer in the table; `--json` has all that is kept.
_SHOWN = 60
_ATTEMPT = ("at", "webhook", "try", "outcome", "status", "ms", "answer")


@click.group()
def webhooks() -> None:
    """Look at the webhook of a site, test it, and send again what was given up."""


@webhooks.command("list")
@door_options
def list_(load: Load, **given: Any) -> None:
    """Show the state of the webhook, what waits, and the last attempts.

    \b
    Example:
      recado webhooks list --site newsite
    """
    options = DoorOptions(load, **given)
    shown = ask_door(options, "GET", "/webhooks", {})
    if options.as_json:
        click.echo(msgspec.json.encode(shown))
        return
    click.echo(f"webhook is {shown['state']}, {shown['waiting']} events wait, {shown['dropped']} were dropped")
    for name, time in (("posts", "due"), ("parked", "parked_at")):
        if shown[name]:
            click.echo(f"\n{name}:")
            rows = [(post["id"], post[time], post["tries"], len(post["seqs"]), post["types"]) for post in shown[name]]
            show_table(rows, "webhook", time, "tries", "events", "types")
    if shown["attempts"]:
        click.echo("\nattempts:")
        show_table([*_rows_of(shown["attempts"])], *_ATTEMPT)


@webhooks.command()
@click.option("--id", "post", metavar="ID", default="", help="One POST, parked or waiting for its next attempt.")
@click.option("--since", metavar="TIME", default="", help="All that were parked since, such as 2026-11-27T10:00:00Z.")
@door_options
def retry(load: Load, post: str, since: str, **given: Any) -> None:
    """Send parked POSTs again, at once: one, those since a time, or all. A webhook that is off is on again.

    \b
    Examples:
      recado webhooks retry --site newsite
      recado webhooks retry --site newsite --since 2026-11-27T10:00:00Z
    """
    options = DoorOptions(load, **given)
    query = {name: value for name, value in (("id", post), ("since", since)) if value}
    answer = ask_door(options, "POST", "/webhooks/retry", query)
    click.echo(msgspec.json.encode(answer) if options.as_json else f"OK {answer['retried']} POSTs are sent again")


@webhooks.command()
@door_options
def test(load: Load, **given: Any) -> None:
    """Send an event of the type `webhook.test` at once, and show the answer.

    \b
    Example:
      recado webhooks test --site newsite
    """
    options = DoorOptions(load, **given)
    attempt = ask_door(options, "POST", "/webhooks/test", {})["attempt"]
    if options.as_json:
        click.echo(msgspec.json.encode(attempt))
    else:
        show_table([*_rows_of([attempt])], *_ATTEMPT)
    if not 200 <= attempt["status"] < 300:
        raise Failure(attempt["error"] or f"the backend answered {attempt['status']}")


def _rows_of(attempts: Iterable[dict[str, Any]]) -> Iterable[tuple[object, ...]]:
    for one in attempts:
        shown = (one["error"] or one["answer"])[:_SHOWN]
        yield one["at"], one["webhook_id"], one["attempt"], one["outcome"], one["status"] or "-", one["ms"], shown
