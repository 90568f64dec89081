"""The answer to SIGHUP: reads the configuration again, serves the sites as the files have them by now, and names what
waits for a restart.

Knows neither files nor nodes, only a reader and a call that serves the sites.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct, structs

from app.config.changes import Changes, changes_between
from app.config.settings import Config
from app.errors import ConfigError
from app.watched_tasks import start_logged

_log = structlog.get_logger(__name__)


class ConfigReader(Struct, frozen=True):
    """How a configuration is read. Lives as long as the process serves; its calls take a while, in a thread."""

    #: Raises ConfigError.
    load: Callable[[], Config]
    #: Checks sites together. Raises ConfigError.
    check: Callable[[Config], None]
    #: Raises ConfigError for changes that nobody meant: a file is missing.
    confirm: Callable[[Changes], None] = lambda changes: None

    def changes(self, running: Config) -> Changes:
        """Reads the files and compares them with the settings that run. Raises ConfigError for files with mistakes or
        missing ones, and for sites that cannot run beside those that operators have stored."""
        read = self.load()
        changes = changes_between(running, read)
        self.confirm(changes)
        stored = {name: site for name, site in running.sites.items() if site.is_stored}
        self.check(structs.replace(running, sites={**read.sites, **stored}))
        return changes


class Reload:
    """The reloads of one process, one at a time. Lives as long as the process serves; `stop` ends it."""

    def __init__(self, running: Config, reader: ConfigReader, apply: Callable[[Changes], Awaitable[None]]) -> None:
        """`apply` serves the sites as they have changed, and puts them into the sites of `running`."""
        self._running = running
        self._reader = reader
        self._apply = apply
        self._is_asked = False
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """SIGHUP has arrived. However often it arrives during a reload, one more reload follows."""
        self._is_asked = True
        if self._task is None and not self._is_over:
            self._task = start_logged(self._run(), "reload")

    def stop(self) -> None:
        """Ends the reload that is under way; none follows."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._is_asked:
                self._is_asked = False
                await self._reload()
        finally:
            self._task = None

    async def _reload(self) -> None:
        try:
            changes = await asyncio.to_thread(self._reader.changes, self._running)
        except ConfigError as error:
            _log.error("configuration not reloaded", mistakes=error.mistakes)
            return
        if changes.taken:
            _log.error("sites not added", sites=changes.taken, reason="an operator has stored sites of these names")
        if changes.settings:
            _log.warning("restart to apply", settings=changes.settings)
        await self._apply(changes)
        _log.info("configuration reloaded", **changes.names)
