"""The settings as values, with their defaults and units.

Knows nothing of files, YAML or environment variables: `app.config.load` fills these in.
"""

from pathlib import Path
from typing import Literal

from msgspec import Struct

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]


class QueueLimit(Struct, frozen=True, kw_only=True):
    """How much one device's queue may hold; past either bound it is dropped and the device gets `_resync`."""

    messages: int = 10_000
    bytes: int = 16_000_000


class BatchLimit(Struct, frozen=True, kw_only=True):
    """How much one `_batch` may carry; the rest follows the ack of the part before."""

    messages: int = 1_000
    bytes: int = 1_000_000


class HistoryLimit(Struct, frozen=True, kw_only=True):
    """How much of what was published a protocol keeps for those who come back: whichever bound is met first."""

    messages: int = 1_000
    bytes: int = 16_000_000
    #: 0 keeps nothing.
    seconds: int = 300


class Channels(Struct, frozen=True, kw_only=True):
    """What a site says of its channels."""

    #: Whether anybody may create a channel; else it takes the site's API key.
    open_create: bool = False
    #: What `resume` may ask for; its seconds are the site's device_ttl.
    history_messages: int = 1_000
    #: How many there may be: with open_create anybody can fill Redis with them.
    max_channels: int = 100_000


class Topics(Struct, frozen=True, kw_only=True):
    """What a site says of its topics. Its repr holds no key."""

    #: After so long a subscription ends, unless /alive extends it, at most so many times.
    connection_timeout_seconds: float = 60.0
    max_alive_count: int = 60
    #: A stream without data for so long gets a sign of life.
    keep_alive_seconds: float = 50.0
    #: Of one subscription.
    max_topics: int = 1_000
    history: HistoryLimit = HistoryLimit()
    #: What signs bind keys: the secret of HS256, the public key (PEM) of RS256.
    jwt_secret: str | None = None
    jwt_public_key: str | None = None
    #: What the original's bind keys are encrypted for (PEM), how old they may be, and who knows their user.
    private_key: str | None = None
    bind_key_ttl_seconds: float = 3.0
    bind_url: str | None = None

    def __repr__(self) -> str:
        return f"Topics(connection_timeout_seconds={self.connection_timeout_seconds})"


class RedisPublish(Struct, frozen=True, kw_only=True):
    """What a site says of its Redis PUBLISH ingress. Its repr holds no URL: there may be a password in it."""

    #: Of the application's own channels and keys.
    prefix: str = "rm"
    #: None means the server's own Redis.
    url: str | None = None
    #: Whether users must know the key that Redis holds for them.
    secure: bool = True
    queue_expiry_seconds: int = 604_800
    conn_limit: int = 6
    #: Whether a message stays queued until its client has acknowledged it.
    ack: bool = False
    #: A Socket.IO namespace beside the site's own, with its slash.
    route: str | None = None
    #: Longer payloads are refused.
    max_payload_bytes: int = 1_000_000

    def __repr__(self) -> str:
        return f"RedisPublish({self.prefix!r})"


class Mounts(Struct, frozen=True, kw_only=True):
    """Which site each protocol serves at the paths of the server that it takes the place of."""

    channels: str | None = None
    topics: str | None = None


class ClusterSettings(Struct, frozen=True, kw_only=True):
    """How nodes on other machines reach this one; both or neither is given. Its repr has no secret."""

    #: Of this node, as the others reach it.
    url: str | None = None
    #: The same for all nodes: who shows it is one of them.
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Cluster({self.url!r})"


class ResumeTicket(Struct, frozen=True, kw_only=True):
    """How long a client may come back without authUrl being asked."""

    #: Of one ticket; connected clients are given a new one in time.
    ttl_seconds: int = 300
    #: Since authUrl was last asked; then it is asked again.
    max_age_seconds: int = 86_400


class SiteLimits(Struct, frozen=True, kw_only=True):
    """How much of the server one site may use, over all nodes; 0 means without a limit."""

    connections: int = 0
    #: An IPv6 address stands for its /64, which is one customer's.
    connections_per_address: int = 0
    connections_per_user: int = 0
    rooms_per_connection: int = 0
    sends_per_second: float = 0
    #: What may come at once after a pause; 0: what may come in a second.
    sends_burst: int = 0
    #: Of one message as JSON.
    message_bytes: int = 0


class Site(Struct, frozen=True, kw_only=True):
    """One tenant's settings. Lives as long as the server; its repr is the name alone: keys and URLs are secret."""

    name: str
    #: None means that nobody connects over Socket.IO to this site's rooms.
    auth_url: str | None = None
    auth_scheme: str = "Bearer"
    api_key: str
    #: Rooms with this prefix belong to one user; None or "" means the site keeps no queues.
    user_room_prefix: str | None = None
    #: `:id` in it stands for the user's id.
    update_user_url: str | None = None
    #: A room that counts as a user's own room though many share it.
    public_channel: str | None = None
    #: The origins browsers may connect from; None means any.
    origins: tuple[str, ...] | None = None
    #: 0 means that a device never expires.
    device_ttl_seconds: int = 3600
    queue_limit: QueueLimit = QueueLimit()
    batch_limit: BatchLimit = BatchLimit()
    outbox_limit_bytes: int = 1_000_000
    limits: SiteLimits = SiteLimits()
    #: Requests to authUrl that one node has under way at once; more of them wait for their turn.
    auth_concurrency: int = 64
    #: None means that every connect asks authUrl.
    resume_ticket: ResumeTicket | None = None
    #: None means that the site has not turned the protocol on.
    channels: Channels | None = None
    topics: Topics | None = None
    redis_publish: RedisPublish | None = None
    #: Name of a channel or topic -> the room that hears what is published there, and is heard there.
    binds: dict[str, str] = {}

    @property
    def has_queues(self) -> bool:
        """Whether messages are kept for the devices of this site's users until they are acknowledged."""
        return bool(self.user_room_prefix)

    def __repr__(self) -> str:
        return f"Site({self.name!r})"


class Config(Struct, frozen=True, kw_only=True):
    """Everything the server is told at its start. Lives as long as the process; its repr holds no secret."""

    environment: str = "production"
    host: str = "0.0.0.0"
    #: 0 picks a free port.
    port: int = 1337
    device_ttl_seconds: int = 3600
    #: None starts the embedded server on `data_dir`.
    redis_url: str | None = None
    data_dir: Path = Path("data")
    #: The node's place in message ids, 0-31 each; None means leased in Redis.
    datacenter: int | None = None
    worker: int | None = None
    ping_interval_ms: int = 25_000
    ping_timeout_ms: int = 20_000
    #: The longest body of an HTTP request.
    max_body_bytes: int = 1_000_000
    #: The longest Engine.IO message or polling body of a client.
    max_payload_bytes: int = 1_000_000
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    queue_limit: QueueLimit = QueueLimit()
    batch_limit: BatchLimit = BatchLimit()
    #: What may wait in this process for one connection.
    outbox_limit_bytes: int = 1_000_000
    limits: SiteLimits = SiteLimits()
    auth_concurrency: int = 64
    auth_timeout_seconds: float = 5.0
    #: Networks whose word for a client's address counts (`X-Forwarded-For`).
    trusted_proxies: tuple[str, ...] = ()
    #: From SIGTERM on connections are told to leave, evenly over this time.
    drain_timeout_seconds: float = 20.0
    #: From then to the exit: requests under way, what has not reached Redis.
    shutdown_timeout_seconds: float = 8.0
    #: After this long without Redis `/send` answers 503.
    redis_timeout_seconds: float = 1.5
    mounts: Mounts = Mounts()
    cluster: ClusterSettings = ClusterSettings()
    #: Processes that share the port; each is a node.
    workers: int = 1
    sites: dict[str, Site] = {}

    def __repr__(self) -> str:
        return f"Config(environment={self.environment!r}, port={self.port}, sites={sorted(self.sites)})"
