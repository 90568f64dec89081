"""The keys of config.yml and sites.yml that belong to no protocol, and the blocks with the keys that protocols add."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol, cast, get_args

import msgspec
from msgspec import Meta, field

from app.config.section import (
    Amount,
    HeaderText,
    HttpUrl,
    RedisUrl,
    Seconds,
    Section,
    SectionSpec,
    Text,
    TtlSeconds,
)
from app.config.settings import JOURNAL_TABLES, Config, HookEvent, LogFormat, LogLevel
from app.config.wording import matching


def _one_of(kind: object) -> Meta:
    names = get_args(kind)
    return matching(rf"^({'|'.join(names)})\Z", f"one of {', '.join(names)}")


_LogLevel = Annotated[str, _one_of(LogLevel)]
_LogFormat = Annotated[str, _one_of(LogFormat)]
_HookEvent = Annotated[str, _one_of(HookEvent)]
_Origin = Annotated[
    str,
    matching(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#]+\Z", "an origin such as https://www.example.com, without a path"),
]
_NodeUrl = Annotated[
    str,
    matching(
        r"^https?://([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?\Z",
        "a URL that begins with http:// or https://, without user name and path",
    ),
]
_LOOPBACK = r"http://(localhost|127\.0\.0\.1|\[::1\])"
_SecureUrl = Annotated[
    str,
    matching(
        rf"^(https://[^\s/?#@:\[\]]+|{_LOOPBACK})(:\d{{1,5}})?(/[^\s?#]*)?\Z",
        "a URL that begins with https://, without query",
    ),
]
_PublicUrl = Annotated[
    str,
    matching(
        rf"^(https://[^\s/?#@\[\]]+|{_LOOPBACK})(:\d{{1,5}})?\Z",
        "a URL such as https://push.example.com, without a path",
    ),
]
_Scope = Annotated[str, matching(r"^[!#-\[\]-~]{1,128}\Z", "a scope such as openid")]
_Role = Annotated[str, matching(r"^(admin|operator|viewer)\Z", "one of admin, operator, viewer")]
_Port = Annotated[int, Meta(ge=0, le=65_535)]
_MountedPort = Annotated[int, Meta(ge=1, le=65_535)]
_Workers = Annotated[int, Meta(ge=1, le=256)]
_NodePart = Annotated[int, Meta(ge=0, le=31)]
_Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
#: An hour: a longer end of a node was meant in milliseconds.
_EndSecondsOrNone = Annotated[float, Meta(ge=0, le=3_600)]
_EndSeconds = Annotated[float, Meta(gt=0, le=3_600)]
_AmountOrNone = Annotated[int, Meta(ge=0, le=2**53)]
_DatabaseUrl = Annotated[
    str,
    matching(
        r"^(none|postgres(ql)?://\S+|sqlite:///\S.*)\Z",
        "a URL such as postgresql://user@host/name or sqlite:///path, or none",
    ),
]
_Days = Annotated[float, Meta(gt=0, le=36_500)]
_JournalTable = Annotated[str, matching(rf"^({'|'.join(JOURNAL_TABLES)})\Z", f"one of {', '.join(JOURNAL_TABLES)}")]


#: The patterns of a site, and the characters of one.
MOST_ROOM_PATTERNS = 100
MAX_ROOM_PATTERN = 1_000
#: The highest value of `presence.members`. A node keeps so many users of each watched room.
MAX_LISTED_MEMBERS = 1_000

#: The headers of a request to the collector of spans, and the highest value of `tracing.queue`.
MOST_TRACING_HEADERS = 20
MAX_TRACING_QUEUE = 100_000

_HeaderName = Annotated[str, matching(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z", "the name of an HTTP header")]
_RoomPattern = Annotated[str, Meta(min_length=1, max_length=MAX_ROOM_PATTERN)]

#: The characters of an operator's password.
MIN_PASSWORD = 10
MAX_PASSWORD = 256
OPERATOR_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._@-]{0,63}\Z"
OperatorName = Annotated[str, matching(OPERATOR_NAME, "a name of at most 64 letters, digits and any of . _ @ -")]


class Configured(Protocol):
    """A protocol as the configuration sees it."""

    @property
    def name(self) -> str:
        """Its key in `mounts`."""

    @property
    def section(self) -> SectionSpec | None:
        """Its section of a site's block."""

    @property
    def sections(self) -> Sequence[SectionSpec]:
        """That section, and further ones of the block."""

    @property
    def is_mountable(self) -> bool:
        """Whether it can serve a site at the paths of the server that it replaces."""

    @property
    def has_own_ports(self) -> bool:
        """Whether that server has ports of its own, which `mounts` may name."""

    def check(self, config: Config) -> None:
        """Raises ConfigError for settings that are valid alone and not together."""


class MountSection(Section):
    """A site in `mounts:`, with the ports of the server that it replaces."""

    site: Text | None = None
    http_port: _MountedPort | None = None
    ws_port: _MountedPort | None = None


class LimitSection(Section):
    """A bound by number and by size."""

    messages: Amount | None = None
    bytes: Amount | None = None


class ClusterSection(Section):
    """`cluster:`"""

    url: _NodeUrl | None = None
    secret: HeaderText | None = None


class TlsSection(Section):
    """`tls:`"""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    verify_clients: bool | None = None
    redirect_port: _MountedPort | None = None


class SiteLimitsSection(Section):
    """`limits:`, the share of the server that a site may use; 0 is no limit."""

    connections: _AmountOrNone | None = None
    connections_per_address: _AmountOrNone | None = None
    connections_per_user: _AmountOrNone | None = None
    rooms_per_connection: _AmountOrNone | None = None
    sends_per_second: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    sends_burst: _AmountOrNone | None = None
    message_bytes: _AmountOrNone | None = None
    rooms_per_send: _AmountOrNone | None = None
    devices_per_user: _AmountOrNone | None = None
    stored_messages: _AmountOrNone | None = None
    stored_bytes: _AmountOrNone | None = None


class WebhookSection(Section):
    """`webhook:`, the backend's address for events. Its repr has no secret."""

    url: HttpUrl | None = None
    # Its form is checked in load.py: msgspec fails on two patterns in one union.
    secrets: tuple[str, ...] | str | None = field(name="secret", default=None)
    events: tuple[_HookEvent, ...] | None = None
    offline_grace_seconds: Annotated[float, Meta(ge=0, le=3600)] | None = field(name="offline_grace", default=None)
    allow_private: bool | None = None

    def __repr__(self) -> str:
        return "WebhookSection()"


class JwtSection(Section):
    """`jwt:`, an issuer of tokens. Its repr has no secret."""

    issuer: Text | None = None
    audience: tuple[Text, ...] | Text | None = None
    secrets: tuple[Text, ...] | Text | None = field(name="secret", default=None)
    public_keys: tuple[Text, ...] | Text | None = field(name="public_key", default=None)
    jwks: HttpUrl | None = None
    rooms_claim: Text | None = None
    user_claim: Text | None = None
    leeway_seconds: Annotated[float, Meta(ge=0, le=300)] | None = field(name="leeway", default=None)

    def __repr__(self) -> str:
        return "JwtSection()"


class PresenceSection(Section):
    """`presence:`"""

    rooms: Annotated[tuple[_RoomPattern, ...], Meta(min_length=1, max_length=MOST_ROOM_PATTERNS)] | None = None
    members: Annotated[int, Meta(ge=1, le=MAX_LISTED_MEMBERS)] | None = None
    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] | None = field(name="grace", default=None)


class SharedKeys(Section):
    """The keys that an environment's block and a site may both hold. The site's value wins."""

    device_ttl_seconds: TtlSeconds | None = field(name="device_ttl", default=None)
    queue_limit: LimitSection | None = None
    batch_limit: LimitSection | None = None
    outbox_limit_bytes: Amount | None = field(name="outbox_limit", default=None)
    limits: SiteLimitsSection | None = None
    auth_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None


class ErrorRoomSection(Section):
    """`console.errors_to:`"""

    site: Text | None = None
    room: Text | None = None


class OidcSection(Section):
    """`console.oidc:`. Its repr has no secret."""

    issuer: _SecureUrl | None = None
    client_id: Text | None = None
    client_secret: Text | None = None
    public_url: _PublicUrl | None = None
    scopes: Annotated[tuple[_Scope, ...], Meta(min_length=1, max_length=20)] | None = None
    name_claim: Text | None = None
    role_claim: Text | None = None
    sites_claim: Text | None = None
    roles: dict[Text, _Role] | None = None
    default_role: _Role | None = None

    def __repr__(self) -> str:
        return "OidcSection()"


class ConsoleSection(Section):
    """`console:`. Its repr has no secret."""

    port: _MountedPort | None = None
    operator: OperatorName | None = None
    operator_password: Annotated[str, Meta(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)] | None = None

    errors_to: ErrorRoomSection | None = None
    oidc: OidcSection | None = None

    def __repr__(self) -> str:
        return "ConsoleSection()"


class RedisSection(Section):
    """`redis:`"""

    redis_url: RedisUrl | None = field(name="url", default=None)


class JournalSection(Section):
    """`journal:`"""

    retention: _Days | dict[_JournalTable, _Days] | None = None
    backlog: Annotated[int, Meta(ge=100, le=100_000_000)] | None = None


class SiteJournalSection(Section):
    """`journal:` of a site."""

    journal_bodies: bool | None = field(name="bodies", default=None)


class FlakeIdSection(Section):
    """`flakeid:`"""

    datacenter: _NodePart | None = None
    worker: _NodePart | None = None


class TracingSection(Section):
    """`tracing:`. Its repr has no secret."""

    trace_endpoint: HttpUrl | None = field(name="endpoint", default=None)
    trace_headers: Annotated[dict[_HeaderName, HeaderText], Meta(max_length=MOST_TRACING_HEADERS)] | None = field(
        name="headers", default=None
    )
    trace_sample: Annotated[float, Meta(ge=0, le=1)] | None = field(name="sample", default=None)
    trace_service: Annotated[str, Meta(min_length=1, max_length=200)] | None = field(name="service", default=None)
    trace_timeout_seconds: Annotated[float, Meta(gt=0, le=60)] | None = field(name="timeout", default=None)
    trace_queue: Annotated[int, Meta(ge=100, le=MAX_TRACING_QUEUE)] | None = field(name="queue", default=None)

    @property
    def lacks_endpoint(self) -> bool:
        """Whether other keys say something without it."""
        plain = Config()
        return self.trace_endpoint is None and any(one != getattr(plain, name) for name, one in self.given().items())

    def __repr__(self) -> str:
        return "TracingSection()"


class EngineSection(Section):
    """`io:`, Engine.IO's own settings, in its own spelling."""

    ping_interval_ms: _Milliseconds | None = field(name="pingInterval", default=None)
    ping_timeout_ms: _Milliseconds | None = field(name="pingTimeout", default=None)
    max_payload_bytes: Amount | None = field(name="maxPayload", default=None)


class EnvironmentKeys(SharedKeys):
    """One environment of config.yml, without the keys that protocols add."""

    host: Text | None = None
    port: _Port | None = None
    workers: _Workers | None = None
    data_dir: Path | None = None
    redis: RedisSection | None = None
    database_url: _DatabaseUrl | None = None
    journal: JournalSection | None = None
    flakeid: FlakeIdSection | None = None
    io: EngineSection | None = None
    max_body_bytes: Amount | None = field(name="max_body", default=None)
    client_bundle: int | None = None
    log_level: _LogLevel | None = None
    log_format: _LogFormat | None = None
    joining_per_address: _AmountOrNone | None = None
    auth_timeout_seconds: Seconds | None = field(name="auth_timeout", default=None)
    drain_timeout_seconds: _EndSecondsOrNone | None = field(name="drain_timeout", default=None)
    shutdown_timeout_seconds: _EndSeconds | None = field(name="shutdown_timeout", default=None)
    redis_timeout_seconds: Seconds | None = field(name="redis_timeout", default=None)
    # An environment variable holds all proxies in one text.
    trusted_proxies: tuple[str, ...] | str | None = None
    cluster: ClusterSection | None = None
    tls: TlsSection | None = None
    canary: bool | None = None
    tracing: TracingSection | None = None
    console: ConsoleSection | bool | None = None


class SiteKeys(SharedKeys):
    """One site of sites.yml, without the sections of protocols."""

    auth_url: HttpUrl | None = field(name="authUrl", default=None)
    auth_scheme: HeaderText | None = field(name="authScheme", default=None)
    jwt: JwtSection | tuple[JwtSection, ...] | None = None
    # Two while callers change from one to the other.
    api_key: tuple[Text, ...] | Text | None = field(name="apiKey", default=None)
    user_room_prefix: str | None = field(name="userRoomPrefix", default=None)
    update_user_url: HttpUrl | None = field(name="updateUserUrl", default=None)
    public_channel: Text | None = field(name="publicChannel", default=None)
    origins: tuple[_Origin, ...] | None = None
    presence: PresenceSection | bool | None = None
    binds: dict[Text, Text] | None = None
    webhook: WebhookSection | None = None
    idempotency_ttl_seconds: Annotated[int, Meta(ge=1, le=604_800)] | None = field(name="idempotency_ttl", default=None)
    import_originals: bool | None = field(name="import", default=None)
    journal: SiteJournalSection | None = None


class Blocks:
    """The types of both files' blocks, with the keys of these protocols. Lives while the settings are read."""

    def __init__(self, protocols: Sequence[Configured]) -> None:
        #: The sections of the protocols that have one.
        self.sections = [section for protocol in protocols for section in protocol.sections]
        mounts = msgspec.defstruct(
            "MountsSection",
            [(protocol.name, _mount_of(protocol), None) for protocol in protocols if protocol.is_mountable],
            bases=(Section,),
            kw_only=True,
        )
        environment = msgspec.defstruct(
            "EnvironmentBlock", [("mounts", mounts | None, None)], bases=(EnvironmentKeys,), kw_only=True
        )
        self.environment = cast("type[EnvironmentKeys]", environment)
        site = msgspec.defstruct(
            "SiteBlock",
            [(section.key, section.keys | None, None) for section in self.sections],
            bases=(SiteKeys,),
            kw_only=True,
        )
        self.site = cast("type[SiteKeys]", site)


def _mount_of(protocol: Configured) -> object:
    """The type of the protocol's key in `mounts`: the name of a site, or also a section."""
    return MountSection | Text | None if protocol.has_own_ports else Text | None
