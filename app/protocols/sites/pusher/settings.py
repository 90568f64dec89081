"""The section `pusher:` of a site."""

import re
from typing import Annotated

from msgspec import Meta, Struct, field

from app.config.mistakes import Mistakes
from app.config.section import Section, SectionSpec, Text
from app.config.settings import Config, Site

#: The keys of one app: two while its backends change from one to the other.
MOST_APP_KEYS = 2
#: The characters of an app's id.
MAX_APP_ID = 64
_APP_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_APP_ID}}}", re.ASCII)


class PusherApp(Struct, frozen=True, kw_only=True):
    """The app as which backends that speak Pusher's HTTP API know the site. Its repr holds no secret."""

    app_id: str | int = ""
    #: The newest first; the secrets in the same order.
    key: tuple[str, ...] | str = ()
    secret: tuple[str, ...] | str = ()
    #: Whether the text in `data` is read as JSON, so that clients get its value.
    decode_data: bool = False

    @property
    def id(self) -> str:
        """The id as paths have it."""
        return str(self.app_id)

    @property
    def secrets(self) -> dict[str, str]:
        """Each key with its secret."""
        return dict(zip(_listed(self.key), _listed(self.secret), strict=False))

    def __repr__(self) -> str:
        return f"PusherApp({self.id!r})"


class PusherKeys(Section):
    """`pusher:`. Its repr has no secret."""

    # In YAML a number is an id, too.
    app_id: Annotated[int, Meta(ge=0)] | Text | None = None
    key: tuple[Text, ...] | Text | None = None
    secret: tuple[Text, ...] | Text | None = None
    decode_data: bool | None = field(name="decode", default=None)

    def __repr__(self) -> str:
        return "PusherKeys()"


SECTION = SectionSpec("pusher", PusherKeys, PusherApp, is_sufficient=False, secrets=frozenset(("secret",)))


def socket_id(handle: bytes) -> str:
    """The socket id of a device, by its handle: the packages take two numbers with a dot between them."""
    return f"{handle.decode()}.0"


def check_apps(config: Config) -> None:
    """Raises ConfigError for an app without id, keys or secrets, and for two sites that are one app."""
    mistakes = Mistakes()
    found: dict[str, Site] = {}
    for site in config.sites.values():
        if (app := site.section(PusherApp)) is None:
            continue
        place = f"site {site.name!r}: pusher"
        for mistake in _mistakes_of(app):
            mistakes.add(f"{place}.{mistake}")
        if app.id and found.setdefault(app.id, site) is not site:
            mistakes.add(f"{place}.app_id: expected another one, site {found[app.id].name!r} has {app.id!r}")
    mistakes.raise_any()


def _mistakes_of(app: PusherApp) -> list[str]:
    keys, secrets = _listed(app.key), _listed(app.secret)
    mistakes = []
    if not _APP_ID.fullmatch(app.id):
        mistakes.append(f"app_id: expected 1 to {MAX_APP_ID} letters, digits, - and _")
    if not 1 <= len(keys) <= MOST_APP_KEYS or len(set(keys)) < len(keys):
        mistakes.append("key: expected one key, or a list of two different ones")
    if len(secrets) != len(keys):
        mistakes.append("secret: expected one for each key, in the order of the keys")
    return mistakes


def _listed(given: tuple[str, ...] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given
