"""The settings as values, with their defaults and units. Knows no files, YAML or environment variables:
`app.config.load` fills the settings in."""

from pathlib import Path
from typing import Literal, TypeVar, cast

from msgspec import Struct

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]
HookEvent = Literal["user.online", "user.offline", "message.unacknowledged", "message.acknowledged", "device.resync"]
_Section = TypeVar("_Section", bound=Struct)


class QueueLimit(Struct, frozen=True, kw_only=True):
    """The bounds of one device's queue. Past either, the queue is dropped and the device gets `_resync`."""

    messages: int = 10_000
    bytes: int = 16_000_000


class BatchLimit(Struct, frozen=True, kw_only=True):
    """The bounds of one `_batch`. The next part follows the ack of this one."""

    messages: int = 1_000
    bytes: int = 1_000_000


class HistoryLimit(Struct, frozen=True, kw_only=True):
    """The bounds of the published messages that a protocol keeps for returning clients. The first one met counts."""

    messages: int = 1_000
    bytes: int = 16_000_000
    #: 0 keeps nothing.
    seconds: int = 300


class ClusterSettings(Struct, frozen=True, kw_only=True):
    """The way from nodes on other machines to this one; both or neither is given. Its repr has no secret."""

    #: The URL at which the others reach this node.
    url: str | None = None
    #: The same for all nodes: a request that presents it comes from one of them.
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Cluster({self.url!r})"


class TlsSettings(Struct, frozen=True, kw_only=True):
    """The files with which the server ends TLS itself. Without a certificate it speaks plain HTTP."""

    #: The certificate, with the chain behind it, and its key: PEM without a passphrase.
    cert: Path | None = None
    key: Path | None = None
    #: The certificates that sign those of clients.
    ca: Path | None = None
    #: Whether a client without such a certificate is refused.
    verify_clients: bool = False
    #: The port on which plain HTTP is answered with a redirect; None: no such port.
    redirect_port: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether the server speaks TLS."""
        return self.cert is not None


class ErrorRoom(Struct, frozen=True, kw_only=True):
    """The room of a site that errors are sent to; both or neither is given."""

    site: str = ""
    room: str = ""


class OidcSettings(Struct, frozen=True, kw_only=True):
    """The provider that says who an operator is (OpenID Connect). Its repr has no secret."""

    #: As its discovery document names it; None: there is no provider.
    issuer: str | None = None
    client_id: str = ""
    #: None: the client is a public one.
    client_secret: str | None = None
    #: The console's URL as browsers know it, without a path.
    public_url: str = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    #: The claims with the operator's name, with what decides the role, and with the sites. A dot leads into a claim.
    name_claim: str = "preferred_username"
    role_claim: str | None = None
    #: None: every site.
    sites_claim: str | None = None
    #: A value of the role's claim -> the role. The highest counts; without one nobody is let in.
    roles: dict[str, str] = {}
    #: The role of everybody whom the provider lets in, where no value of the claim says more.
    default_role: str | None = None

    def __repr__(self) -> str:
        return f"Oidc({self.issuer!r})"


class ConsoleSettings(Struct, frozen=True, kw_only=True):
    """The operators' pages and API. Its repr has no secret."""

    is_on: bool = True
    #: The only port that serves them; None: the server's own.
    port: int | None = None
    #: An administrator that each start makes, with this password.
    operator: str | None = None
    operator_password: str | None = None
    errors_to: ErrorRoom = ErrorRoom()
    oidc: OidcSettings = OidcSettings()

    def __repr__(self) -> str:
        return f"Console(is_on={self.is_on}, port={self.port})"


#: The hidden site of the canaries; see `app/canary`. No file can name it, and no list shows it.
CANARY_SITE = "~canary"

#: The tables of the journal that keep their rows for a time.
JOURNAL_TABLES = (
    *("audit", "connections", "deliveries", "log", "messages", "missing"),
    *("refusals", "samples", "transfers", "webhook_attempts"),
)
_KEEP_DAYS = 7.0
_KEEP_DAYS_OF = {"audit": 365.0, "samples": 30.0}
#: The value of `database_url` that turns the journal off.
NO_DATABASE = "none"


class JournalSettings(Struct, frozen=True, kw_only=True):
    """The history in SQL. Lives as long as the process."""

    #: Days; a number for all tables, or by table. A table that is not named has its default.
    retention: float | dict[str, float] = {}
    #: The entries that a site's stream in Redis may hold; past it the oldest go.
    backlog: int = 100_000

    def days(self, table: str) -> float:
        """How long the rows of a table are kept."""
        if isinstance(self.retention, dict):
            return self.retention.get(table, _KEEP_DAYS_OF.get(table, _KEEP_DAYS))
        return self.retention


class SiteLimits(Struct, frozen=True, kw_only=True):
    """The share of the server that one site may use, over all nodes; 0 means no limit."""

    connections: int = 0
    #: An IPv6 address counts as its /64, which belongs to one customer.
    connections_per_address: int = 0
    connections_per_user: int = 0
    #: Each of them costs the script that connects a device.
    rooms_per_connection: int = 1_000
    sends_per_second: float = 0
    #: The sends allowed at once after a pause; 0: as many as in a second.
    sends_burst: int = 0
    #: The size of one message as JSON.
    message_bytes: int = 0
    #: The rooms that one message addresses.
    rooms_per_send: int = 1_000
    #: Past it the device of the user that is longest away is forgotten. Connected devices stay.
    devices_per_user: int = 100
    #: The messages that wait for devices, and their size as JSON; each message counts once.
    stored_messages: int = 0
    stored_bytes: int = 0


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """Where a site's backend hears of events, and of which; without a URL of none. Its repr has no secret."""

    url: str | None = None
    #: Each signs every request: two while the backend changes from one to the other.
    secrets: tuple[str, ...] = ()
    events: tuple[HookEvent, ...] = ()
    #: A user without any device for this time is offline.
    offline_grace_seconds: float = 5.0
    #: Whether the URL may lead into a private network, or to this machine.
    allow_private: bool = False

    @property
    def tells_presence(self) -> bool:
        """Whether users' comings or goings are told."""
        return "user.online" in self.events or "user.offline" in self.events

    def __repr__(self) -> str:
        return f"Webhook({', '.join(self.events)})"


class PresenceSettings(Struct, frozen=True, kw_only=True):
    """The rooms whose users are told of."""

    #: Patterns in which `*` stands for any text.
    rooms: tuple[str, ...] = ("*",)
    #: A room with more users has their number only.
    members: int = 500
    #: A user without any device for this time has left.
    grace_seconds: float = 10.0


class JwtIssuer(Struct, frozen=True, kw_only=True):
    """An issuer whose tokens a site takes without a request to authUrl, and one kind of key. Its repr has no secret."""

    issuer: str
    #: A token is to name one of these; without any it is to name none.
    audience: tuple[str, ...] = ()
    #: Several while the issuer changes from one to the other.
    secrets: tuple[str, ...] = ()
    public_keys: tuple[str, ...] = ()
    #: The URL of the issuer's public keys.
    jwks: str | None = None
    #: The claim that lists the rooms, and the claim that names the user.
    rooms_claim: str = "rooms"
    user_claim: str = "sub"
    #: How far the issuer's clock may be from this server's.
    leeway_seconds: float = 10.0

    def __repr__(self) -> str:
        return f"JwtIssuer({self.issuer!r})"


class Site(Struct, frozen=True, kw_only=True):
    """One tenant's settings. Lives as long as the site is served. Its repr is the name alone: keys and URLs are secret.

    Every part that serves the site holds the same value, and `become` alone changes it.
    """

    name: str
    #: Without it and without `jwt` no client connects over Socket.IO to this site's rooms.
    auth_url: str | None = None
    auth_scheme: str = "Bearer"
    #: The issuers of tokens for which authUrl is not asked.
    jwt: tuple[JwtIssuer, ...] = ()
    api_key: str
    #: Keys that are valid beside it, while callers change from one to the other.
    further_keys: tuple[str, ...] = ()
    #: Rooms with this prefix belong to one user; None or "" means the site keeps no queues.
    user_room_prefix: str | None = None
    #: `:id` in it stands for the user's id.
    update_user_url: str | None = None
    #: A room that counts as a user's own room although many users share it.
    public_channel: str | None = None
    #: The origins that browsers may connect from; None means any.
    origins: tuple[str, ...] | None = None
    #: 0 means that a device never expires.
    device_ttl_seconds: int = 3600
    #: None: nobody is told of users in rooms.
    presence: PresenceSettings | None = None
    queue_limit: QueueLimit = QueueLimit()
    batch_limit: BatchLimit = BatchLimit()
    outbox_limit_bytes: int = 1_000_000
    limits: SiteLimits = SiteLimits()
    #: Requests to authUrl that one node has in flight at once. Others wait for their turn.
    auth_concurrency: int = 64
    #: The sections of the protocols that the site has turned on, by their class.
    sections: dict[type[Struct], Struct] = {}
    #: Name of a channel or topic -> the room bound to it: what is published in one is heard in the other.
    binds: dict[str, str] = {}
    webhook: WebhookSettings = WebhookSettings()
    #: Whether its settings are in SQL, where operators change them while nodes serve it; else they are in a file.
    is_stored: bool = False
    #: Whether its devices take over what socket.io-webservice has left waiting for them in the same Redis.
    import_originals: bool = True
    #: Whether the journal keeps the arguments of its messages.
    journal_bodies: bool = False
    #: For how long an Idempotency-Key of /send counts.
    idempotency_ttl_seconds: int = 86_400

    @property
    def has_queues(self) -> bool:
        """Whether messages are kept for the devices of this site's users until they are acknowledged."""
        return bool(self.user_room_prefix)

    @property
    def has_rooms(self) -> bool:
        """Whether clients connect over Socket.IO to its rooms."""
        return self.auth_url is not None or bool(self.jwt)

    @property
    def is_hidden(self) -> bool:
        """Whether it is the server's own, which no list, metric or row shows."""
        return self.name == CANARY_SITE

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that is valid, the newest first."""
        return (self.api_key, *self.further_keys)

    def section(self, kind: type[_Section]) -> _Section | None:
        """A protocol's section of this site; None when the site has not turned it on."""
        return cast("_Section | None", self.sections.get(kind))

    def require_section(self, kind: type[_Section]) -> _Section:
        """A protocol's section of this site, for code that a site without the section never reaches."""
        return cast("_Section", self.sections[kind])

    def __repr__(self) -> str:
        return f"Site({self.name!r})"


class Config(Struct, frozen=True, kw_only=True):
    """All settings of the server. Lives as long as the process; its repr holds no secret."""

    environment: str = "production"
    host: str = "0.0.0.0"
    #: 0 picks a free port.
    port: int = 1337
    device_ttl_seconds: int = 3600
    #: None starts the embedded server on `data_dir`.
    redis_url: str | None = None
    data_dir: Path = Path("data")
    #: Where the journal is; None: beside the embedded server a file of its own, else nowhere. It may hold a password.
    database_url: str | None = None
    journal: JournalSettings = JournalSettings()
    #: The node's place in message ids, 0-31 each; None means leased in Redis.
    datacenter: int | None = None
    worker: int | None = None
    ping_interval_ms: int = 25_000
    ping_timeout_ms: int = 20_000
    #: The longest body of an HTTP request.
    max_body_bytes: int = 1_000_000
    #: The longest Engine.IO message or polling body of a client.
    max_payload_bytes: int = 1_000_000
    #: The major version of the client that pages get at /socket.io/socket.io.js: 1, 2 or 4.
    client_bundle: int = 4
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    queue_limit: QueueLimit = QueueLimit()
    batch_limit: BatchLimit = BatchLimit()
    #: The bytes that may wait in this process for one connection.
    outbox_limit_bytes: int = 1_000_000
    limits: SiteLimits = SiteLimits()
    auth_concurrency: int = 64
    #: The Socket.IO sessions of one address that have joined no site, on one node; 0: any number.
    joining_per_address: int = 1000
    auth_timeout_seconds: float = 5.0
    #: Networks whose `X-Forwarded-For` is trusted for a client's address.
    trusted_proxies: tuple[str, ...] = ()
    #: After SIGTERM the connections are told to leave, evenly over this time.
    drain_timeout_seconds: float = 20.0
    #: From then to the exit: the time for requests in flight and for writes that have not reached Redis.
    shutdown_timeout_seconds: float = 8.0
    #: After this time without Redis, `/send` answers 503.
    redis_timeout_seconds: float = 1.5
    #: Protocol -> the site that it serves at the paths of the server that it replaces.
    mounts: dict[str, str] = {}
    #: Protocol -> the ports of that server, on which nothing else is served.
    mount_ports: dict[str, tuple[int, ...]] = {}
    cluster: ClusterSettings = ClusterSettings()
    tls: TlsSettings = TlsSettings()
    console: ConsoleSettings = ConsoleSettings()
    #: Processes that share the port; each is a node.
    workers: int = 1
    #: Whether each node sends itself a message every 10 s.
    canary: bool = True
    #: The URL of the collector of spans over OTLP/HTTP; None: there are none. Its query and the headers may be secret.
    trace_endpoint: str | None = None
    trace_headers: dict[str, str] = {}
    #: The share of the requests without a `traceparent` that begin a trace.
    trace_sample: float = 1.0
    trace_service: str = "recado"
    #: For handing spans to the collector, with all retries; and the spans that may wait for it.
    trace_timeout_seconds: float = 10.0
    trace_queue: int = 10_000
    #: The parts of a node share this mapping. It changes while the node serves, see `app/node/served_sites.py`.
    sites: dict[str, Site] = {}

    @property
    def journal_url(self) -> str | None:
        """The database of the journal; None: there is no journal."""
        if self.database_url is None and self.redis_url is None:
            return f"sqlite:///{(self.data_dir / 'journal.sqlite').absolute()}"
        return None if self.database_url == NO_DATABASE else self.database_url

    @property
    def tenants(self) -> list[Site]:
        """The sites without the hidden one of the canary: those that lists show."""
        return [site for site in self.sites.values() if not site.is_hidden]

    @property
    def further_ports(self) -> dict[int, str]:
        """The ports beside `port` to listen on, with the setting that names each."""
        ports = {port: "mounts" for ports in self.mount_ports.values() for port in ports}
        if self.console.is_on and self.console.port is not None:
            ports.setdefault(self.console.port, "console.port")
        return {port: setting for port, setting in ports.items() if port != self.port}

    @property
    def own_url(self) -> str:
        """The URL of this server on its own machine."""
        return url_on_loopback(self, self.port)

    def __repr__(self) -> str:
        return f"Config(environment={self.environment!r}, port={self.port}, sites={sorted(self.sites)})"


def url_on_loopback(config: Config, port: int) -> str:
    """The URL at which a server with these settings answers on this port of its own machine."""
    return f"{'https' if config.tls.is_on else 'http'}://127.0.0.1:{port}"
