"""The command `recado import push0k`: works on the database of the messenger, also while servers run."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from app.commands.failures import Failure, Load, config_option, sites_option
from app.commands.users import messenger_of
from app.config.settings import Config, Site
from app.errors import RecadoError
from app.journal.database import JournalUnavailable
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.services import ImportWishes, import_push0k
from app.protocols.messenger.settings import is_beside

_AGAIN = "repeat the import: it goes on from there"


@click.command("push0k")
@config_option
@sites_option
@click.option("--site", "site_name", required=True, help="The site with the messenger.")
@click.option(
    "--files",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the attachments (push0k's atachCatalog); without it they do not come along.",
)
@click.option(
    "--passwords",
    "password_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append first passwords to this file, for its owner alone (default: print them).",
)
@click.option("--dry-run", is_flag=True, help="Look at the database and the folder, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, the outcome last.")
@click.argument("dsn", envvar="PUSH0K_DSN")
@click.pass_obj
def push0k(load: Load, /, config_path: str | None, sites_path: str | None, site_name: str, **given: Any) -> None:
    """Import users, rooms, contacts, messages, receipts and attachments of push0k.

    DSN is the URL of its database, postgresql://user@host/push0k (env PUSH0K_DSN). Servers may run meanwhile. A
    repetition makes nothing twice: after a break it goes on.

    \b
    Examples:
      recado import push0k --site team --dry-run postgresql://localhost/push0k
      recado import push0k --site team --files /srv/push0k/atach/ --passwords first.txt postgresql://localhost/push0k
    """
    config, site = messenger_of(load(config_path, sites_path), site_name)
    if is_beside(site):
        raise Failure("the users of this site are those of its backend: none can be imported")
    as_json, is_dry = given["as_json"], given["dry_run"]
    wishes = ImportWishes(
        given["dsn"],
        given["folder"],
        is_dry,
        _password_teller(given["password_file"], as_json),
        lambda note: click.echo(f"WARNING {note}", err=as_json),
        lambda text: click.echo(text, err=True),
    )
    outcome = _perform(config, site, wishes)
    if as_json:
        click.echo(msgspec.json.encode({"counts": outcome.counts, "notes": outcome.notes}))
        return
    if is_dry:
        for note in outcome.notes:
            click.echo(f"WARNING {note}")
    told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in outcome.counts.items() if count)
    done = (
        f"to import: {told or 'nothing'}; nothing was changed" if is_dry else f"site {site.name}: {told or 'nothing'}"
    )
    click.echo(f"OK {done}")


def _perform(config: Config, site: Site, wishes: ImportWishes) -> ImportOutcome:
    try:
        return asyncio.run(import_push0k(config, site, wishes))
    except TimeoutError:
        raise Failure("the journal's database does not answer") from None
    except JournalUnavailable as error:
        raise Failure(f"the database of push0k does not answer ({error}); {_AGAIN}") from None
    except RecadoError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"--passwords: {error.strerror}") from None


def _password_teller(file: Path | None, as_json: bool) -> Callable[[str, str], None]:
    """Writes logins and first passwords, durable before their users are: a kill loses none."""

    def tell(login: str, password: str) -> None:
        if file is None:
            line = msgspec.json.encode({"login": login, "password": password}).decode()
            click.echo(line if as_json else f"password of {login}: {password}")
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{login}\t{password}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    return tell
