"""The section `messenger:` of a site, and the check of all sites."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from app.config.section import Amount, Section, SectionSpec
from app.config.settings import Config, Site
from app.config.wording import matching
from app.errors import ConfigError
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import (
    LEAST_ITERATIONS,
    MAX_LOGIN_CHARACTERS,
    MAX_PASSWORD_CHARACTERS,
    MOST_ITERATIONS,
    USER_PREFIX,
)
from app.protocols.messenger.scram import login_text

_Files = Annotated[
    str, matching(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/\S*)?\Z", "s3://bucket/prefix, true or false")
]


class Messenger(Struct, frozen=True, kw_only=True):
    """A site's settings for its messenger."""

    #: Whether strangers may register.
    registration: Literal["closed", "open"] = "closed"
    #: The id of the room whose members accept registrations; None: operators alone.
    registration_room: int | None = None
    #: The users that a user sees: all, or those with whom a room or a contact is shared.
    contact_list: Literal["all", "rooms"] = "all"
    #: A user without any connection for this long is away.
    away_seconds: float = 5
    #: So many failures of a login from an address within the window block both.
    fail_count: int = 3
    fail_window_seconds: int = 90
    block_seconds: int = 300
    session_ttl_seconds: int = 86_400
    #: The iterations of SCRAM for passwords that the server makes keys of.
    iterations: int = 600_000
    #: Events that one connection may send in a second, over a time; twice as many at once.
    events_per_second: float = 50
    #: Where files are kept: true is `data_dir/files`, false turns them off.
    files: bool | str = True
    file_part_bytes: int = 4_194_304
    file_max_bytes: int = 1_073_741_824
    #: The bytes of all files of a user; 0: any number.
    file_quota_bytes: int = 10_737_418_240
    #: The admin that each start makes unless a user has the login, and its first password.
    admin_login: str | None = None
    admin_password: str | None = None
    #: Whether it is the site of the demo, whose passwords are public. No key of a section sets it.
    is_demo: bool = False

    def __repr__(self) -> str:
        return f"Messenger(registration={self.registration!r}, files={self.files!r})"


class MessengerKeys(Section):
    """`messenger:`"""

    registration: Literal["closed", "open"] | None = None
    registration_room: Amount | None = None
    contact_list: Literal["all", "rooms"] | None = None
    away_seconds: Annotated[float, Meta(ge=0, le=3_600)] | None = field(name="away_after", default=None)
    fail_count: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    fail_window_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = field(name="fail_window", default=None)
    block_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    session_ttl_seconds: Annotated[int, Meta(ge=60, le=31_536_000)] | None = field(name="session_ttl", default=None)
    iterations: Annotated[int, Meta(ge=LEAST_ITERATIONS, le=MOST_ITERATIONS)] | None = None
    events_per_second: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    files: bool | _Files | None = None
    file_part_bytes: Annotated[int, Meta(ge=65_536, le=67_108_864)] | None = field(name="file_part", default=None)
    file_max_bytes: Amount | None = field(name="file_max", default=None)
    file_quota_bytes: Annotated[int, Meta(ge=0, le=2**53)] | None = field(name="file_quota", default=None)
    admin_login: Annotated[str, Meta(min_length=1, max_length=MAX_LOGIN_CHARACTERS)] | None = None
    admin_password: Annotated[str, Meta(min_length=1, max_length=MAX_PASSWORD_CHARACTERS)] | None = None

    def __repr__(self) -> str:
        return "MessengerKeys()"


SECTION = SectionSpec(
    "messenger",
    MessengerKeys,
    Messenger,
    secrets=frozenset(["admin_password"]),
    implied=(("user_room_prefix", USER_PREFIX),),
    variables=(("RECADO_ADMIN_LOGIN", "admin_login"), ("RECADO_ADMIN_PASSWORD", "admin_password")),
)


def is_beside(site: Site) -> bool:
    """Whether the site has a messenger beside a backend of its own: the users are the backend's, their ids text."""
    return site.has_rooms and site.section(Messenger) is not None


def check_sections(config: Config) -> None:
    """Raises ConfigError where a messenger has no database, or its users no rooms of their own."""
    for site in config.sites.values():
        if site.section(Messenger) is not None:
            _check(site, config)


def _check(site: Site, config: Config) -> None:
    if config.journal_url is None:
        raise ConfigError(
            f"{site.name}.messenger: needs a database, expected database_url, or no redis.url: "
            "beside the embedded server SQLite is used"
        )
    if site.user_room_prefix != USER_PREFIX:
        raise ConfigError(f"{site.name}.userRoomPrefix: expected {USER_PREFIX!r} beside messenger, or no such key")
    _check_admin(site, site.require_section(Messenger))


def _check_admin(site: Site, settings: Messenger) -> None:
    place = f"{site.name}.messenger.admin"
    if (settings.admin_login is None) != (settings.admin_password is None):
        missing = "login" if settings.admin_login is None else "password"
        raise ConfigError(f"{place}_{missing}: is missing, expected admin_login and admin_password together")
    if settings.admin_login is None:
        return
    if is_beside(site):
        raise ConfigError(f"{place}_login: expected no such key beside authUrl: its backend lets users in")
    try:
        login_text(settings.admin_login)
    except ChatRefusal as refusal:
        raise ConfigError(f"{place}_login: {refusal}") from None
