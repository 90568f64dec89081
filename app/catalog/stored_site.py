"""A site as operators have stored it, and the errors of a change. Knows neither SQL nor Redis."""

from typing import Any, Literal

from msgspec import Struct

from app.digests import digest
from app.errors import RecadoError

SiteState = Literal["live", "leaving", "gone"]
#: Digits of a key's digest that name the key: they tell nothing of it.
_NAME_DIGITS = 12


class StoredSite(Struct, frozen=True, kw_only=True):
    """A row of `site_settings`. Its repr is the name alone: the block has keys and URLs with passwords."""

    name: str
    #: As in sites.yml; {} once the site is gone.
    block: dict[str, Any]
    state: SiteState = "live"
    #: Grows with each change of any site.
    version: int
    #: In ms since the epoch.
    created_at: int
    changed_at: int
    #: When each key was made, in ms, by the name of the key.
    keys_made: dict[str, int] = {}

    @property
    def keys(self) -> list[str]:
        """The API keys, the newest first."""
        given = self.block.get("apiKey", [])
        return [given] if isinstance(given, str) else list(given)

    def __repr__(self) -> str:
        return f"StoredSite({self.name!r}, {self.state!r})"


class CatalogRefused(RecadoError):
    """The change of a site is refused"""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        #: For programs: `exists`, `not_found`, `changed`, `leaving`, `in_file`, `too_many`, `key`.
        self.code = code


def key_name(key: str) -> str:
    """The name of an API key, which does not tell it."""
    return name_of_digest(digest(key))


def name_of_digest(key_digest: bytes) -> str:
    """The same from the key's digest."""
    return key_digest.hex()[:_NAME_DIGITS]
