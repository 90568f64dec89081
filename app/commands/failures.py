"""The end of a command that fails, and the options that commands share."""

from collections.abc import Callable
from typing import Any, TypeAlias

import click

from app.config.settings import Config
from app.errors import ConfigError

#: Reads the settings from the two files that options name, and from the environment. The object of click's context.
#: Raises ConfigFailure.
Load: TypeAlias = Callable[[str | None, str | None], Config]

#: The protocols of the server, in the `meta` of click's context.
PROTOCOLS_KEY = "recado.protocols"

config_option = click.option(
    "--config", "config_path", metavar="FILE", help="config.yml to read (env RECADO_CONFIG; default ./config.yml)."
)
sites_option = click.option(
    "--sites", "sites_path", metavar="FILE", help="sites.yml to read (env RECADO_SITES; default ./sites.yml)."
)


class Failure(click.ClickException):
    """Ends the command with one line on stderr. Lives until click has shown it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: Any = None) -> None:
        """Writes the line."""
        click.echo(f"recado: {self.message}", err=True, file=file)


class ConfigFailure(Failure):
    """Ends the command when the configuration is not usable, with one line for each mistake."""

    exit_code = 2

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self._mistakes = error.mistakes

    def show(self, file: Any = None) -> None:
        """Writes the lines."""
        for mistake in self._mistakes:
            click.echo(f"recado: {mistake}", err=True, file=file)
