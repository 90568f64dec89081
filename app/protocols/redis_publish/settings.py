"""The section `redisPublish:` of a site, and the check of all such sections together."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Struct, field

from app.config.section import Amount, RedisUrl, Section, SectionSpec
from app.config.settings import Config, Site
from app.config.wording import matching
from app.errors import ConfigError

_KeyPrefix = Annotated[
    str,
    matching(
        r"^(?!recado(:|\Z))[^\s*?\[\]{}\\]+\Z",
        "text without spaces and any of * ? [ ] { } \\, and not recado, as the server's own keys begin",
    ),
]
_Namespace = Annotated[str, matching(r"^/[^\s,?#]+\Z", "a namespace such as /rm")]


class RedisPublish(Struct, frozen=True, kw_only=True):
    """A site's settings for its Redis PUBLISH ingress. The repr omits the URL, which may contain a password."""

    #: The beginning of the application's own channels and keys.
    prefix: str = "rm"
    #: None means the server's own Redis.
    url: str | None = None
    #: Whether users must know the key that Redis holds for them.
    secure: bool = True
    queue_expiry_seconds: int = 604_800
    conn_limit: int = 6
    #: Whether a message stays queued until its client has acknowledged it.
    ack: bool = False
    #: A second Socket.IO namespace beside the site's own, with its slash.
    route: str | None = None
    #: How payloads wait in users' lists: as they are, or in encodeURI as in RedMessenger. None: as the lists show.
    queue_encoding: Literal["plain", "uri"] | None = None
    #: Longer payloads are refused.
    max_payload_bytes: int = 1_000_000

    def __repr__(self) -> str:
        return f"RedisPublish({self.prefix!r})"


class RedisPublishKeys(Section):
    """`redisPublish:`"""

    prefix: _KeyPrefix | None = None
    url: RedisUrl | None = None
    secure: bool | None = None
    queue_expiry_seconds: Amount | None = field(name="queue_expiry", default=None)
    conn_limit: Amount | None = None
    ack: bool | None = None
    route: _Namespace | None = None
    queue_encoding: Literal["plain", "uri"] | None = None
    max_payload_bytes: Amount | None = field(name="max_payload", default=None)


SECTION = SectionSpec("redisPublish", RedisPublishKeys, RedisPublish, secrets=frozenset(("url",)))


def check_sections(config: Config) -> None:
    """Raises ConfigError when two sites would deliver the same PUBLISHes, or a namespace has two owners."""
    owners: dict[object, str] = {}
    for site in config.sites.values():
        settings = site.section(RedisPublish)
        if settings is not None:
            source = (settings.url or config.redis_url, settings.prefix)
            if (other := owners.setdefault(source, site.name)) != site.name:
                raise ConfigError(
                    f"{site.name}.redisPublish.prefix: expected another than that of {other!r} on the same Redis"
                )
            if settings.route is not None:
                _check_route(settings.route, site, config.sites, owners)


def _check_route(route: str, site: Site, sites: Mapping[str, Site], owners: dict[object, str]) -> None:
    if route == f"/{site.name}":
        raise ConfigError(f"{site.name}.redisPublish.route: expected another than the site's own {route}")
    other = route[1:] if route[1:] in sites else owners.setdefault(route, site.name)
    if other != site.name:
        raise ConfigError(f"{site.name}.redisPublish.route: {route} is the namespace of {other!r}")
