"""The places that the settings of a server come from, and the command line above them. A reload reads them again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from app.config.changes import Changes
from app.config.keys import Configured
from app.config.load import load_config
from app.config.settings import Config
from app.errors import ConfigError

_LOOPBACK = "127.0.0.1"


class Sources(Struct, frozen=True, kw_only=True):
    """The files and options of one `recado serve`. Lives as long as the command, and goes to its workers."""

    config_path: str | None = None
    sites_path: str | None = None
    #: The settings of the command line, by the names of `Config`.
    given: dict[str, Any] = {}
    has_demo: bool = False

    def load(self, protocols: Sequence[Configured]) -> Config:
        """Reads the settings, as they are by now. Raises ConfigError."""
        config = load_config(self.config_path, self.sites_path, os.environ, protocols)
        config = structs.replace(config, **self.given)
        if self.has_demo and "host" not in self.given and config.host == Config().host:
            # Its key is known to everybody: only this machine reaches it, unless an address is given.
            config = structs.replace(config, host=_LOOPBACK)
        return config

    def check_files(self, changes: Changes) -> None:
        """Raises ConfigError when all that is gone stood in a file that is not there, as while it is copied."""
        sites, config = (given or os.environ.get(name) or default for given, name, default in self._files())
        for path, is_missed in ((sites, changes.gone), (config, changes.settings)):
            if is_missed and not Path(path).exists():
                raise ConfigError(f"{path}: no such file; an empty one takes everything out of it")

    def _files(self) -> tuple[tuple[str | None, str, str], ...]:
        return (self.sites_path, "RECADO_SITES", "sites.yml"), (self.config_path, "RECADO_CONFIG", "config.yml")
