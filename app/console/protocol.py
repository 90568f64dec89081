"""The console of one node: composes the entry, the operations, the pages and the API, and ends them with the node."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from app.backends.provider_door import ProviderDoor
from app.canary.record import CanaryRecord
from app.config.settings import Config
from app.console.api import OperatorApi
from app.console.desk import Desk
from app.console.entry import Entry
from app.console.error_room import ErrorSender
from app.console.first_operator import make_first
from app.console.needs import Needs
from app.console.oidc import OidcLogin
from app.console.operators import OperatorStore
from app.console.pages.audit import audit_operations
from app.console.pages.connections import connection_operations
from app.console.pages.listed import PAGES
from app.console.pages.log import log_operations
from app.console.pages.nodes import database_operations
from app.console.pages.operators import operator_operations
from app.console.pages.overview import OverviewSources, overview_operations
from app.console.pages.tokens import account_operations
from app.console.pages.totals import TotalsSources, total_operations
from app.console.pages.transfers import transfer_operations
from app.console.pages.webhooks import attempt_operations
from app.console.parameters import joined_path
from app.console.passwords import PasswordChecks
from app.console.pruning import Pruning
from app.console.redis_sessions import RedisSessions
from app.console.sql_operators import SqlOperators
from app.console.streams import LiveStreams
from app.console.web import ConsolePages
from app.journal.charts import chart
from app.journal.database import open_database
from app.journal.ended import ended_connections
from app.journal.newest import newest_samples
from app.journal.prune import prune
from app.journal.row_lists import list_rows
from app.journal.state import database_state
from app.observe.counted_lines import CountedLines
from app.observe.log import tell_serious
from app.protocols.http_request import Receive, Scope, Send, segments_of
from app.protocols.protocol import AsgiApp, NodeProtocol, NodeServices, ProtocolSpec
from app.watched_tasks import start_watched

_log = structlog.get_logger(__name__)

#: How long the start of a node waits for the operator that its settings name.
FIRST_SECONDS = 3.0
#: Refuses a WebSocket.
_NOTHING = Starlette()
NEEDS_SQL = "The console needs the journal's database: set DATABASE_URL and start again."


class _NodeConsole(NodeProtocol):
    """The console of one node. Lives as long as the node."""

    more_paths = ("api",)

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self.port = services.config.console.port
        self.application = self._answer
        self._pages: AsgiApp = Needs(NEEDS_SQL)
        self._api: AsgiApp = Needs(NEEDS_SQL)
        self._streams = LiveStreams()
        self._passwords = PasswordChecks()
        self._engine: AsyncEngine | None = None
        self._task: asyncio.Task[None] | None = None
        self._pruning = Pruning(services.redis, services.node, self._prune)

        place = services.config.console.errors_to
        parts = (services.config.sites, services.ids.next_id, services.delivery.publish)
        self._errors = ErrorSender(place, services.node, *parts) if place.site else None
        self._forget: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Opens the database, which connects at the first question, and serves the operations of all parts."""
        config = self._services.config
        if self._errors is not None:
            self._forget = tell_serious(self._errors.note)
            self._errors.start()
        if config.journal_url is None:
            _log.warning("console without operators", expected="DATABASE_URL")
            return
        self._engine = open_database(config.journal_url)
        operators = SqlOperators(self._engine)
        self._begin(config, operators, self._engine)
        if config.console.operator is not None:
            work = make_first(config, operators, self._passwords)
            self._task = start_watched(work, "console operator", may_return=True)
            # The port opens behind it: a password that was told is right by then, unless SQL is away.
            await asyncio.wait([self._task], timeout=FIRST_SECONDS)

    def _begin(self, config: Config, operators: OperatorStore, engine: AsyncEngine) -> None:
        read_rows = partial(list_rows, engine)
        canary = self._services.counts.part(CanaryRecord)
        own = [
            *connection_operations(partial(ended_connections, engine)),
            *database_operations(partial(database_state, engine)),
            *overview_operations(
                OverviewSources(
                    partial(chart, engine),
                    partial(newest_samples, engine),
                    lambda: (canary.share(), canary.slowest_percent()),
                )
            ),
            *attempt_operations(read_rows),
            *total_operations(
                TotalsSources(partial(chart, engine), partial(newest_samples, engine), self._services.config.sites)
            ),
            *self._pruning.operations(),
            *log_operations(read_rows),
            *transfer_operations(read_rows),
            *audit_operations(read_rows),
            *operator_operations(operators, self._passwords),
            *account_operations(operators, self._passwords),
        ]
        desk = Desk([*self._services.operations, *own], config.sites, operators)
        entry = Entry(operators, RedisSessions(self._services.redis), self._passwords)
        oidc = config.console.oidc
        told = CountedLines(_log, "warning", "console provider failed")
        provider = None if oidc.issuer is None else OidcLogin(oidc, ProviderDoor().ask, told)
        self._pages = ConsolePages(desk, entry, self._streams, PAGES, provider)
        self._api = OperatorApi(desk, entry).app

    async def _prune(self, tell: Callable[[str, int], None]) -> None:
        config = self._services.config
        assert config.journal_url is not None, "the console has a database"
        # Its own: each transaction takes the lock for writing at its begin.
        engine = open_database(config.journal_url, is_writer=True, connections=1)
        try:
            await prune(engine, config.journal, tell=tell)
        finally:
            await engine.dispose()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _NOTHING(scope, receive, send)
            return
        own = {**scope, "path": joined_path(segments_of(scope))}
        is_api = own["path"].startswith("/api")
        await (self._api if is_api else self._pages)(own, receive, send)

    async def drain(self, seconds: float) -> None:
        """Ends the live streams: their browsers come again, to another node."""
        self._streams.close()

    async def close(self) -> None:
        """Ends the threads and the connections to the database."""
        self._streams.close()
        self._forget()
        if self._errors is not None:
            await self._errors.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pruning.close()
        self._passwords.close()
        if self._engine is not None:
            await self._engine.dispose()


CONSOLE = ProtocolSpec("console", _NodeConsole)
