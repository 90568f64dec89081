"""The keys of config.yml and sites.yml: their names, types and bounds, and the sentence for what breaks them.

Knows nothing of files, of the environment, or of the defaults: a key left out, or null, is None here.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct, field

from app.config.settings import LogFormat, LogLevel
from app.errors import ConfigError

_LOG_LEVEL = rf"^({'|'.join(get_args(LogLevel))})\Z"
_LOG_FORMAT = rf"^({'|'.join(get_args(LogFormat))})\Z"
# What stands in it is read by store/address.py; but a wrong database shall be found before the start.
_REDIS_URL = (
    r"^(unix://\S+|rediss?://[^\s/?]*(/\d*)?(\?\S*)?|rediss?\+cluster://[^\s/?]+(/0?)?(\?\S*)?"
    r"|rediss?\+sentinel://[^\s/?]+/[^\s/?]+(/\d*)?(\?\S*)?)\Z"
)
_HTTP_URL = r"^https?://([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?([/?#]\S*)?\Z"
_HEADER_TEXT = r"^[!-~]([ -~]*[!-~])?\Z"
_ORIGIN = r"^[a-z][a-z0-9+.-]*://[^\s/?#]+\Z"
_NODE_URL = r"^https?://([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?\Z"
_KEY_PREFIX = r"^(?!recado(:|\Z))[^\s*?\[\]{}\\]+\Z"
_NAMESPACE = r"^/[^\s,?#]+\Z"
_PEM = r"^\s*-----BEGIN [A-Z ]*KEY-----\s"

# Pattern, as msgspec quotes it -> what it says, for the error line.
_PATTERNS = {
    repr(_LOG_LEVEL): f"one of {', '.join(get_args(LogLevel))}",
    repr(_LOG_FORMAT): f"one of {', '.join(get_args(LogFormat))}",
    repr(_REDIS_URL): (
        "a URL such as redis://host:6379/0, rediss://host, unix:///path, redis+sentinel://host,host/name "
        "or redis+cluster://host,host"
    ),
    repr(_HTTP_URL): "a URL that begins with http:// or https://, without user name",
    repr(_HEADER_TEXT): "text of printable ASCII characters",
    repr(_NODE_URL): "a URL that begins with http:// or https://, without user name and path",
    repr(_KEY_PREFIX): "text without spaces and any of * ? [ ] { } \\, and not recado, as the server's own keys begin",
    repr(_NAMESPACE): "a namespace such as /rm",
    repr(_PEM): "a key in PEM, which begins with -----BEGIN",
    repr(_ORIGIN): "an origin such as https://www.example.com, without a path",
}
# msgspec's word -> ours.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}

_Text = Annotated[str, Meta(min_length=1)]
_HttpUrl = Annotated[str, Meta(pattern=_HTTP_URL)]
_Pem = Annotated[str, Meta(pattern=_PEM)]
_HeaderText = Annotated[str, Meta(pattern=_HEADER_TEXT)]
_Port = Annotated[int, Meta(ge=0, le=65_535)]
_Workers = Annotated[int, Meta(ge=1, le=256)]
_NodePart = Annotated[int, Meta(ge=0, le=31)]
_TtlSeconds = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
_SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
# Numbers that a Lua script still computes with exactly.
_Amount = Annotated[int, Meta(ge=1, le=2**53)]
_AmountOrNone = Annotated[int, Meta(ge=0, le=2**53)]


class Section(Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping in a file. Lives while the settings are read.

    Fields are named as the settings they fill, and carry the file's key where it differs.
    """

    def given(self) -> dict[str, Any]:
        """What the file holds, by the setting's name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class LimitSection(Section):
    """A bound by number and by size."""

    messages: _Amount | None = None
    bytes: _Amount | None = None


class HistorySection(Section):
    """What a protocol keeps of what was published."""

    messages: _Amount | None = None
    bytes: _Amount | None = None
    seconds: _TtlSeconds | None = None


class ChannelsSection(Section):
    """`channels:`"""

    open_create: bool | None = None
    history_messages: _Amount | None = None
    max_channels: _Amount | None = None


class TopicsSection(Section):
    """`topics:`"""

    connection_timeout_seconds: _Seconds | None = field(name="connection_timeout", default=None)
    max_alive_count: Annotated[int, Meta(ge=0)] | None = None
    keep_alive_seconds: _Seconds | None = field(name="keep_alive", default=None)
    max_topics: _Amount | None = None
    history: HistorySection | None = None
    jwt_secret: _Text | None = None
    jwt_public_key: _Pem | None = None
    private_key: _Pem | None = None
    bind_key_ttl_seconds: _Seconds | None = field(name="bind_key_ttl", default=None)
    bind_url: _HttpUrl | None = field(name="bindUrl", default=None)


class RedisPublishSection(Section):
    """`redisPublish:`"""

    prefix: Annotated[str, Meta(pattern=_KEY_PREFIX)] | None = None
    url: Annotated[str, Meta(pattern=_REDIS_URL)] | None = None
    secure: bool | None = None
    queue_expiry_seconds: _Amount | None = field(name="queue_expiry", default=None)
    conn_limit: _Amount | None = None
    ack: bool | None = None
    route: Annotated[str, Meta(pattern=_NAMESPACE)] | None = None
    max_payload_bytes: _Amount | None = field(name="max_payload", default=None)


class MountsSection(Section):
    """`mounts:`"""

    channels: _Text | None = None
    topics: _Text | None = None


class ClusterSection(Section):
    """`cluster:`"""

    url: Annotated[str, Meta(pattern=_NODE_URL)] | None = None
    secret: Annotated[str, Meta(pattern=_HEADER_TEXT)] | None = None


class ResumeTicketSection(Section):
    """`resume_ticket:`"""

    ttl_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = field(name="ttl", default=None)
    max_age_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] | None = field(name="max_age", default=None)


class SiteLimitsSection(Section):
    """`limits:`, what a site may use; 0 is no limit."""

    connections: _AmountOrNone | None = None
    connections_per_address: _AmountOrNone | None = None
    connections_per_user: _AmountOrNone | None = None
    rooms_per_connection: _AmountOrNone | None = None
    sends_per_second: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    sends_burst: _AmountOrNone | None = None
    message_bytes: _AmountOrNone | None = None


class SharedKeys(Section):
    """The keys that an environment's block and a site may both hold; the site's win."""

    device_ttl_seconds: _TtlSeconds | None = field(name="device_ttl", default=None)
    queue_limit: LimitSection | None = None
    batch_limit: LimitSection | None = None
    outbox_limit_bytes: _Amount | None = field(name="outbox_limit", default=None)
    limits: SiteLimitsSection | None = None
    auth_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None


class RedisSection(Section):
    """`redis:`"""

    redis_url: Annotated[str, Meta(pattern=_REDIS_URL)] | None = field(name="url", default=None)


class FlakeIdSection(Section):
    """`flakeid:`"""

    datacenter: _NodePart | None = None
    worker: _NodePart | None = None


class EngineSection(Section):
    """`io:`, Engine.IO's own settings, in its own spelling."""

    ping_interval_ms: _Milliseconds | None = field(name="pingInterval", default=None)
    ping_timeout_ms: _Milliseconds | None = field(name="pingTimeout", default=None)
    max_payload_bytes: _Amount | None = field(name="maxPayload", default=None)


class EnvironmentBlock(SharedKeys):
    """One environment of config.yml."""

    host: _Text | None = None
    port: _Port | None = None
    workers: _Workers | None = None
    data_dir: Path | None = None
    redis: RedisSection | None = None
    flakeid: FlakeIdSection | None = None
    io: EngineSection | None = None
    max_body_bytes: _Amount | None = field(name="max_body", default=None)
    log_level: Annotated[str, Meta(pattern=_LOG_LEVEL)] | None = None
    log_format: Annotated[str, Meta(pattern=_LOG_FORMAT)] | None = None
    auth_timeout_seconds: _Seconds | None = field(name="auth_timeout", default=None)
    drain_timeout_seconds: _SecondsOrNone | None = field(name="drain_timeout", default=None)
    shutdown_timeout_seconds: _Seconds | None = field(name="shutdown_timeout", default=None)
    redis_timeout_seconds: _Seconds | None = field(name="redis_timeout", default=None)
    # An environment variable holds them in one text.
    trusted_proxies: tuple[str, ...] | str | None = None
    mounts: MountsSection | None = None
    cluster: ClusterSection | None = None


class SiteBlock(SharedKeys):
    """One site of sites.yml."""

    auth_url: _HttpUrl | None = field(name="authUrl", default=None)
    auth_scheme: _HeaderText | None = field(name="authScheme", default=None)
    api_key: _Text | None = field(name="apiKey", default=None)
    user_room_prefix: str | None = field(name="userRoomPrefix", default=None)
    update_user_url: _HttpUrl | None = field(name="updateUserUrl", default=None)
    public_channel: _Text | None = field(name="publicChannel", default=None)
    resume_ticket: ResumeTicketSection | None = None
    origins: tuple[Annotated[str, Meta(pattern=_ORIGIN)], ...] | None = None
    channels: ChannelsSection | None = None
    topics: TopicsSection | None = None
    redis_publish: RedisPublishSection | None = field(name="redisPublish", default=None)
    binds: dict[_Text, _Text] | None = None


_Block = TypeVar("_Block", bound=Section)


def decode_block(
    raw: object, block_type: type[_Block], place: Callable[[str], str], *, from_text: bool = False
) -> _Block:
    """The block's typed form; `from_text` reads numbers from text, as environment variables need.

    `place` names the place of a dotted key for the error line. Raises ConfigError.
    """
    try:
        return msgspec.convert({} if raw is None else raw, block_type, strict=not from_text, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = re.sub(r"\[.*?\]", "", path.rstrip("`")).lstrip(".")
        unknown = re.fullmatch("Object contains unknown field `(.*)`", message, re.DOTALL)
        if unknown:
            full_key = f"{key}.{unknown[1]}" if key else unknown[1]
            keys = ", ".join(_keys_of(block_type, key))
            raise ConfigError(f"{place(full_key)}: unknown key, expected one of {keys}") from None
        raise ConfigError(f"{place(key)}: {_in_words(message)}") from None


def _decode_path(_: type, value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise TypeError("Expected `str` of length >= 1")  # worded as msgspec would
    return Path(value)


def _keys_of(block_type: type[Section], key: str) -> list[str]:
    """The keys that the block, or the section at the key in it, may hold."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(block_type)}
    if not key:
        return list(fields)
    section, _, rest = key.partition(".")
    section_type = next(kind for kind in get_args(fields[section].type) if kind is not type(None))
    return _keys_of(section_type, rest)


def _in_words(message: str) -> str:
    """msgspec's sentence without Python's names of types and without regular expressions."""
    parts = re.fullmatch(r"Expected `(.*?)`(?:, got `(.*)`| matching regex (.*)| (of length >= 1)| ([<>].*))?", message)
    if parts is None:
        return message
    kinds, got, pattern, not_empty, bound = parts.groups()
    if pattern is not None:
        return f"expected {_PATTERNS[pattern]}"
    words = [_TYPES.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"]
    expected = f"expected {' or '.join(words)}"
    if not_empty:
        return f"{expected} that is not empty"
    if got:
        return f"{expected}, got {_TYPES.get(got, got)}"
    return f"{expected} {bound}" if bound else expected
