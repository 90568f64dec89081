"""The contract of a protocol, as the configuration, the metrics and the builder of a node see it.

A protocol is one folder whose `ProtocolSpec` stands in `listed.py`. The spec holds the facts that are known before any
node runs: name, section, figures, original paths. `open` makes the protocol's part of one node, a `NodeProtocol`: its
applications and routes, and its life from `start` to `close`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from starlette.routing import BaseRoute

from app.config.importing import Importer
from app.config.section import SectionSpec
from app.config.settings import Config, Site
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.live import LiveConnection
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.observe.metric import Metric
from app.protocols.fair_pool import FairPool
from app.protocols.handling import EventHandling
from app.protocols.http_request import Receive, Scope, Send
from app.protocols.load_rooms import LoadRooms
from app.protocols.operations import Operation
from app.redis.client import Commands

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A kind of ASGI scope and a path: `("http", "/push")`.
MountedPath = tuple[str, str]
#: At the end of a mounted path: it stands for every path that begins so, where no longer one does and nothing else
#: answers.
ANY_REST = "*"


class NodeAsking(Protocol):
    """Questions between nodes. Lives as long as the node."""

    #: The answers of this node, by verb: each takes what the asker has given, and answers values of JSON.
    handlers: dict[str, Callable[[Any], Awaitable[Any]]]

    async def ask_all(self, verb: str, given: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """The answers of all living nodes, this one among them, by node, and for nodes without one the reason. All are
        asked at once, and none is asked twice. Raises StoreError."""


class NodeServices(Struct, frozen=True):
    """The parts of a node that its protocols use. Lives as long as the node."""

    #: Its `sites` change while the node serves, see `NodeProtocol.add` and `remove`.
    config: Config
    #: The node's name.
    node: str
    #: The server's own Redis.
    redis: Commands
    delivery: Delivery
    limits: Limits
    ids: FlakeIds
    counts: Counts
    #: Called with a site and a dead node, until each has returned: whatever a protocol keeps of that node goes.
    burials: list[Callable[[Site, str], Awaitable[None]]]
    #: The threads that read what is long.
    reading: FairPool
    calls: NodeAsking
    #: Called with the name of a site whose outbox has events, on the node that sends them.
    hook_wakes: list[Callable[[str], None]] = []
    #: Called with each change in a room that this node watches, as Redis has published it.
    presence_changes: list[Callable[[bytes], None]] = []
    #: The protocols that handle events of clients which another one admits.
    handlings: list[EventHandling] = []
    #: The things that operators see and do: every part adds its own when it is made. The console reads them at its
    #: start.
    operations: list[Operation] = []
    #: Rooms in which a load test may run. A protocol with users and rooms of its own adds itself.
    load_rooms: list[LoadRooms] = []
    #: Whether requests to /send may have spans.
    is_traced: bool = False


class SiteEnding(Struct, frozen=True):
    """Why a node closes the connections of a site, and whether it serves the site again at once."""

    reason: str
    comes_back: bool


class SitePath(Protocol):
    """The paths below the name of a site. Lives as long as the node."""

    def serves(self, site: str) -> bool:
        """Whether this site has such paths. The name is any text of a stranger."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request to a site that has them."""


SITE_CHANGED = SiteEnding("site changed", comes_back=True)
SITE_REMOVED = SiteEnding("site removed", comes_back=False)


class NodeProtocol:
    """One protocol on one node. A subclass overrides the members that it needs. Lives as long as the node.

    opened ──start──▶ serving ──drain──▶ its clients have been told to leave ──settle──▶ Redis knows ──close──▶ ended

    `close` is called in every case, also when `start` was not called or has failed.
    """

    #: Busy path -> its ASGI application, which the server calls without a framework in between.
    endpoints: Mapping[str, AsgiApp] = {}
    #: The application of every path below `/<name of the protocol>/`; None: there is none.
    application: AsgiApp | None = None
    #: Further first segments of paths that the application answers, beside the name of the protocol.
    more_paths: Sequence[str] = ()
    #: The second segment of a path -> the application of `/<site>/<segment>` and every path below. A site whose name is
    #: also the first segment of another application has no such paths.
    site_paths: Mapping[str, "SitePath"] = {}
    #: The only port that serves the application; None: the server's own.
    port: int | None = None
    #: Other routes, served through Starlette. `add` may change them, and the notices.
    routes: Sequence[BaseRoute] = ()
    #: The application of its Socket.IO namespaces; None: it has none.
    namespaces: Any = None
    #: The fields of a handshake's query that these read, and the bytes that each may have.
    query_fields: Mapping[str, int] = {}
    #: Notices of /readyz, by name: whether something of one tenant works. The node stays ready.
    notices: Mapping[str, Callable[[], bool]] = {}
    #: How long `settle` may take; None: as long as a command to Redis.
    settle_seconds: float | None = None

    def live(self, site: str) -> Iterator[LiveConnection]:
        """Its open connections of a site; none of a site that it does not know. See `LiveLister`."""
        return iter(())

    async def start(self) -> None:
        """Starts to serve. Raises StoreUnavailable when Redis is away."""

    async def add(self, site: Site) -> None:
        """Serves one more site, while it serves. The core knows the site; `config.sites` has it when this has returned
        for every protocol. Never waits for Redis. A site whose settings have changed is added again."""

    def namespaces_of(self, site: Site) -> Collection[str]:
        """The namespaces of Socket.IO in which its application serves a site."""
        return (f"/{site.name}",)

    def built_from(self, site: Site) -> object:
        """The settings of a site that parts of this protocol were built from: when they change, the site is removed and
        added. All other settings are read at each use."""
        return None

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Serves a site no more, or is about to add it again: closes its connections with the reason. Its Socket.IO
        clients have left. Returns within some seconds, also while Redis is away; raises nothing for a site that it does
        not serve."""

    async def forget(self, site: str) -> bool:
        """Removes some of what the database holds of a site that is gone for good, and that no node serves. True: there
        is nothing any more. Called again until then, by one node, and again from the begin when that node was killed.
        Raises RecadoError; then it is called again later."""
        return True

    async def drain(self, seconds: float) -> None:
        """Accepts no more connections and tells each to leave, evenly over the time. Returns when all have left."""

    async def settle(self) -> None:
        """Waits until the last work of its connections has reached Redis. Called after every protocol has drained, and
        cancelled after `settle_seconds`."""

    async def close(self) -> None:
        """Ends everything that `open` and `start` began."""


class ProtocolSpec(Struct, frozen=True):
    """One protocol, independent of any node. Lives as long as the process."""

    #: The name in paths, in `mounts`, and of its audiences.
    name: str
    #: Makes its part of a node. Raises ConfigError.
    open: Callable[[NodeServices], NodeProtocol]
    #: Its section of a site's block in sites.yml.
    section: SectionSpec | None = None
    #: Further sections of that block.
    more_sections: Sequence[SectionSpec] = ()
    #: Checks all sites together. Raises ConfigError.
    check_sites: Callable[[Config], None] = lambda config: None
    #: The site on which the demo shows the protocol; None: there is none, or none with these settings.
    demo_site: Callable[[Config], Site | None] = lambda config: None
    #: Its figures; docs/metrics.md explains each.
    metrics: Sequence[Metric] = ()
    #: A path of the server that it replaces -> the path behind `/<name>/<site>`. These paths are served when `mounts`
    #: names one of its sites.
    mounts: Mapping[MountedPath, str] = {}
    #: The files of servers that it replaces, which `recado import` reads.
    importers: Sequence[Importer] = ()
    #: Whether that server listens on ports of its own, which `mounts` may name: `{site, http_port, ws_port}`.
    has_own_ports: bool = False

    @property
    def sections(self) -> Sequence[SectionSpec]:
        """All its sections."""
        return (*((self.section,) if self.section is not None else ()), *self.more_sections)

    @property
    def is_mountable(self) -> bool:
        """Whether it can serve a site at the paths of the server that it replaces."""
        return bool(self.mounts)

    def check(self, config: Config) -> None:
        """Raises ConfigError for settings that are valid one by one but not together."""
        self.check_sites(config)
