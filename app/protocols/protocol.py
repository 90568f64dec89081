"""What a protocol is: one public contract, as the configuration, the metrics and the builder of a node see it.

A protocol is one folder whose `ProtocolSpec` stands in `listed.py`. The spec says what is known before any node runs:
name, section, figures, original paths. `open` makes the protocol's part of one node, a `NodeProtocol`: what it serves
and its life, `start` to `close`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from starlette.routing import BaseRoute

from app.config.section import SectionSpec
from app.config.settings import Config
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.observe.metric import Metric
from app.protocols.http_request import Receive, Scope, Send
from app.redis.client import Commands

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A kind of ASGI scope and a path: `("http", "/push")`.
MountedPath = tuple[str, str]


class NodeServices(Struct, frozen=True):
    """What a node offers its protocols. Lives as long as the node."""

    config: Config
    #: The node's name.
    node: str
    #: The server's own Redis.
    redis: Commands
    delivery: Delivery
    limits: Limits
    ids: FlakeIds
    counts: Counts


class NodeProtocol:
    """One protocol on one node; a subclass overrides what it has. Lives as long as the node.

    opened ──start──▶ serving ──drain──▶ its clients have been told to leave ──settle──▶ Redis knows ──close──▶ ended

    `close` is called in every case, also when `start` was not, or failed.
    """

    #: ASGI applications of single paths that are busy: nothing stands between the server and them.
    endpoints: Mapping[str, AsgiApp] = {}
    #: The application of every path below `/<name of the protocol>/`; None: there is none.
    application: AsgiApp | None = None
    #: Other routes, through Starlette.
    routes: Sequence[BaseRoute] = ()
    #: The application of its Socket.IO namespaces; None: it has none.
    namespaces: Any = None
    #: How long `settle` may take; None: as long as a command to Redis.
    settle_seconds: float | None = None

    async def start(self) -> None:
        """Begins to serve. Raises StoreUnavailable when Redis is away."""

    async def drain(self, seconds: float) -> None:
        """Takes no more connections and tells each to leave, evenly over the time; returns when they have."""

    async def settle(self) -> None:
        """Waits until what its connections left to do has reached Redis. Called after every protocol has drained, and
        cancelled after `settle_seconds`."""

    async def close(self) -> None:
        """Ends what `open` and `start` began."""


class ProtocolSpec(Struct, frozen=True):
    """One protocol, whatever node runs it. Lives as long as the process."""

    #: In paths, in `mounts`, and of its audiences.
    name: str
    #: Makes its part of a node. Raises ConfigError.
    open: Callable[[NodeServices], NodeProtocol]
    #: Its section of a site's block in sites.yml.
    section: SectionSpec | None = None
    #: Checks all sites together. Raises ConfigError.
    check_sites: Callable[[Config], None] = lambda config: None
    #: Its figures; docs/metrics.md explains each.
    metrics: Sequence[Metric] = ()
    #: The paths of the server that it replaces, where `mounts` names one of its sites -> the path behind
    #: `/<name>/<site>`.
    mounts: Mapping[MountedPath, str] = {}

    @property
    def is_mountable(self) -> bool:
        """Whether it can serve a site at the paths of the server that it replaces."""
        return bool(self.mounts)

    def check(self, config: Config) -> None:
        """Raises ConfigError for settings that each are right and together are not."""
        self.check_sites(config)
