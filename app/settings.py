"""The settings as values, with their defaults and units.

Knows nothing of files, YAML or environment variables: `app.config` fills these in.
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


class Site(Struct, frozen=True, kw_only=True):
    """One tenant's settings. Lives as long as the server; its repr is the name alone: keys and URLs are secret."""

    name: str
    auth_url: str
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
    auth_timeout_seconds: float = 5.0
    #: From SIGTERM to exit, in-flight work included.
    shutdown_timeout_seconds: float = 8.0
    #: After this long without Redis `/send` answers 503.
    redis_timeout_seconds: float = 1.5
    sites: dict[str, Site] = {}

    def __repr__(self) -> str:
        return f"Config(environment={self.environment!r}, port={self.port}, sites={sorted(self.sites)})"
