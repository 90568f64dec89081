"""The certificate in use: read at the start, and again when its files change. Files that do not serve change nothing.

Knows no sockets: a connection asks for the context when its handshake begins.
"""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.config.settings import TlsSettings
from app.errors import ConfigError
from app.node.certificates import OwnClient, ServerTls, load_tls, own_context
from app.node.tls_figures import TlsFigures
from app.observe.counts import Counts
from app.watched_tasks import start_watched

_LOOK_SECONDS = 2.0
#: A certificate that ends so soon is a warning in the log, once for each reading.
_SOON_DAYS = 14

_log = structlog.get_logger(__name__)

#: Device, number, size and time of change of a file; None: it is not there.
_Mark = tuple[int, int, int, int] | None


class TlsKeeper:
    """Lives as long as the process serves: `start` begins to look at the files, `close` ends that."""

    look_seconds = _LOOK_SECONDS

    def __init__(self, settings: TlsSettings, own_clients: Sequence[OwnClient] = ()) -> None:
        """Reads the files. The first of `own_clients` is that of this server itself. Raises ConfigError."""
        self._settings = settings
        self._own_clients = own_clients
        self._files = tuple(filter(None, (settings.cert, settings.key, settings.ca)))
        self._read = self._marks()
        self.current: ServerTls = load_tls(settings, own_clients)
        self.figures = TlsFigures()
        self._is_asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the next handshake."""
        return self.current.context

    @property
    def cost_seconds(self) -> float:
        """The time that a handshake takes the event loop."""
        return self.current.cost_seconds

    def own_client_context(self) -> ssl.SSLContext:
        """The context of this server as its own client."""
        return own_context(self._own_clients[0] if self._own_clients else None)

    def start(self, counts: Counts) -> None:
        """Begins to look at the files, and to show the certificate in `counts`."""
        self.figures = counts.part(TlsFigures)
        self._show()
        self._task = start_watched(self._keep_looking(), "tls files")

    def ask(self) -> None:
        """SIGHUP has arrived: reads the files soon, changed or not."""
        self._is_asked.set()

    async def close(self) -> None:
        """Looks no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_looking(self) -> None:
        seen = self._read
        while True:
            try:
                async with asyncio.timeout(self.look_seconds):
                    await self._is_asked.wait()
            except TimeoutError:
                pass
            is_asked = self._is_asked.is_set()
            self._is_asked.clear()
            marks = await asyncio.to_thread(self._marks)
            # Two files do not change at one moment: files that still change are read at the next look.
            is_still, seen = marks == seen, marks
            if is_asked or (marks != self._read and is_still):
                await self._read_again(marks)

    async def _read_again(self, marks: tuple[_Mark, ...]) -> None:
        self._read = marks
        try:
            self.current = await asyncio.to_thread(load_tls, self._settings, self._own_clients)
        except ConfigError as error:
            _log.error("certificate not reloaded", reason=str(error))
            return
        certificate = self.current.certificate
        _log.info("certificate reloaded", subject=certificate.subject, valid_until=certificate.valid_until.isoformat())
        self._show()

    def _show(self) -> None:
        certificate = self.current.certificate
        self.figures.certificate = certificate
        days = certificate.days_left(datetime.now(UTC))
        if days < _SOON_DAYS:
            _log.warning("certificate ends soon", subject=certificate.subject, days_left=round(days, 1))

    def _marks(self) -> tuple[_Mark, ...]:
        return tuple(map(_mark_of, self._files))


def _mark_of(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
