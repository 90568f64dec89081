"""The keys of sites at HTTP doors: a caller shows a site's name and its key, an unknown site looks like a wrong key."""

from collections.abc import Mapping

from app.config.settings import Site
from app.digests import digest, is_same_secret
from app.errors import BadRequest
from app.observe.counted_lines import CountedLines
from app.protocols.http_request import key_in

MISSING = "Missing query param 'site' or 'apiKey'."
INVALID = "ApiKey invalid."


class ApiKeys:
    """The keys of all sites of one node. Lives as long as the node."""

    def __init__(self, sites: Mapping[str, Site], refused: CountedLines | None = None) -> None:
        """`sites` may grow; `add` is called before it does. `refused` tells of wrong keys."""
        self._refused = refused
        self._sites = sites
        self._digests = {name: digest(site.api_key) for name, site in sites.items()}

    def add(self, site: Site) -> None:
        """Knows the key of one more site."""
        self._digests[site.name] = digest(site.api_key)

    def authorized_site(self, query: Mapping[str, str], headers: dict[bytes, bytes]) -> Site:
        """The site whose key the caller shows, in a time that tells nothing. Raises BadRequest: 400 without site or
        key, 401 for an unknown site and for a wrong key."""
        name, key = query.get("site", ""), key_in(dict(query), headers)
        if not name or not key:
            raise BadRequest(MISSING)
        site = self._sites.get(name)
        expected = self._digests[name] if site else digest("")
        if not is_same_secret(key, expected) or site is None:
            if self._refused is not None:
                self._refused.tell(site=site and site.name, reason="wrong key" if site else "unknown site")
            raise BadRequest(INVALID, status=401)
        return site
