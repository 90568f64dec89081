"""The rules for stored sites: those of sites.yml, with the same words for a mistake. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from app.catalog.stored_site import CatalogRefused
from app.config.keys import Blocks, Configured
from app.config.load import check_site_name, read_site
from app.config.mistakes import Mistakes
from app.config.settings import Config, Site
from app.errors import ConfigError

#: The block of one site as JSON.
MAX_BLOCK_BYTES = 65_536
#: Stands for a secret that is not shown.
MASK = "***"


class SiteRules:
    """The check of a site beside the others. Lives as long as its settings."""

    def __init__(self, config: Config, protocols: Sequence[Configured]) -> None:
        """`config` has the defaults of sites, and the sites that are served."""
        self._config = config
        self._protocols = protocols
        self._types = Blocks(protocols)
        #: The secrets of a block by section, as the file names them.
        self._secrets = {"webhook": {"secret"}, "jwt": {"secret"}} | {
            one.key: one.secret_keys for one in self._types.sections
        }

    def is_in_file(self, name: str) -> bool:
        """Whether the site is one of sites.yml, or the server's own: these cannot be changed here."""
        site = self._config.sites.get(name)
        return site is not None and not site.is_stored

    def check_name(self, name: str) -> None:
        """Raises ConfigError for a name that no site can have, CatalogRefused for one of sites.yml."""
        check_site_name(name, "name")
        if self.is_in_file(name):
            raise CatalogRefused(f"site {name!r} is in sites.yml: change it there", "in_file")

    def read(self, name: str, block: Mapping[str, Any]) -> Site:
        """The site of this block, by itself. Raises ConfigError with every mistake."""
        if len(msgspec.json.encode(block)) > MAX_BLOCK_BYTES:
            raise ConfigError(f"{name}: expected at most {MAX_BLOCK_BYTES} bytes as JSON")
        site = read_site(name, dict(block), self._config, self._types, name)
        return structs.replace(site, is_stored=True)

    def masked(self, block: Mapping[str, Any]) -> dict[str, Any]:
        """The block without its API keys, and with MASK in place of every other secret."""
        shown = {key: value for key, value in block.items() if key != "apiKey"}
        for key, secrets in self._secrets.items():
            section = shown.get(key)
            if isinstance(section, list):
                shown[key] = [_masked(one, secrets) for one in section]
            elif isinstance(section, dict):
                shown[key] = _masked(section, secrets)
        return shown

    def unmasked(self, block: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """The block with the known secrets in place of MASK. Raises ConfigError where there is none."""
        given, mistakes = dict(block), Mistakes()
        for key, secrets in self._secrets.items():
            section, before = given.get(key), known.get(key)
            if isinstance(section, dict):
                given[key] = _unmasked(section, before, secrets, key, mistakes)
            elif isinstance(section, list):
                parts = enumerate(section)
                given[key] = [_unmasked(one, before, secrets, f"{key}[{number}]", mistakes) for number, one in parts]
        mistakes.raise_any()
        return given

    def check(self, sites: Mapping[str, Site]) -> None:
        """Raises ConfigError for sites that cannot be served beside each other and those of sites.yml."""
        of_file = {name: site for name, site in self._config.sites.items() if not site.is_stored}
        config = structs.replace(self._config, sites={**sites, **of_file})
        mistakes = Mistakes()
        for protocol in self._protocols:
            with mistakes.noted():
                protocol.check(config)
        mistakes.raise_any()


def _masked(section: Any, secrets: set[str]) -> Any:
    """The section, or the part of a list, with MASK in place of its secrets."""
    if not isinstance(section, dict):
        return section
    return {name: MASK if name in secrets else value for name, value in section.items()}


def _unmasked(section: Any, known: Any, secrets: set[str], place: str, mistakes: Mistakes) -> Any:
    """The section, or the part of a list, with the known secrets in place of MASK."""
    if not isinstance(section, dict):
        return section
    before, given = _before(section, known), dict(section)
    for name in [name for name in secrets if section.get(name) == MASK]:
        if name in before:
            given[name] = before[name]
        else:
            mistakes.add(f"{place}.{name}: expected the secret itself")
    return given


def _before(section: dict[str, Any], known: Any) -> dict[str, Any]:
    """The known section that the given one continues. Parts of a list are those of one issuer, wherever they stand."""
    if not isinstance(known, list) and "issuer" not in section:
        return known if isinstance(known, dict) else {}
    parts = known if isinstance(known, list) else [known]
    return next((one for one in parts if isinstance(one, dict) and one.get("issuer") == section.get("issuer")), {})
