"""The keys of sites at HTTP doors: a caller shows a site's name and its key, an unknown site looks like a wrong key."""

from collections.abc import Mapping
from hmac import compare_digest

from msgspec import Struct

from app.clock import now_ms
from app.config.settings import Site
from app.digests import digest
from app.errors import BadRequest
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.http_request import first_values, key_in
from app.transport.query import fields_of

#: The queries with right keys that are kept, and the longest one.
MOST_KEPT_QUERIES = 1_000
MAX_KEPT_QUERY_BYTES = 1_024

MISSING = "Missing query param 'site' or 'apiKey'."
INVALID = "ApiKey invalid."


class _KnownKeys(Struct, frozen=True):
    """The digests of a site's keys. Lives until the site has other keys."""

    newest: str
    further: tuple[str, ...]
    digests: tuple[bytes, ...]


#: The keys of a site that does not exist.
_NONE = _KnownKeys("", (), (digest(""),))


class _Caller(Struct, frozen=True):
    """A query that has shown the right key. Lives until its site has other keys, or too many are kept."""

    query: dict[str, str]
    site: Site
    newest: str
    further: tuple[str, ...]
    digest: bytes


class ApiKeys:
    """The keys of all sites of one node. Lives as long as the node."""

    def __init__(self, sites: Mapping[str, Site], counts: Counts, refused: CountedLines | None = None) -> None:
        """`sites` may change; `counts` notes when each key was used; `refused` tells of wrong keys."""
        self._refused = refused
        self._sites = sites
        self._uses = counts.key_uses
        self._known: dict[str, _KnownKeys] = {}
        #: By the text of their query.
        self._callers: dict[bytes, _Caller] = {}

    def caller_of(self, query_string: bytes, headers: dict[bytes, bytes]) -> tuple[Mapping[str, str], Site]:
        """The fields of a query and the site whose key the caller shows; see `authorized_site`.

        A backend sends the same query again and again: one with the right key is read once.
        """
        caller = self._callers.get(query_string)
        if caller is not None:
            site = caller.site
            is_known = self._sites.get(site.name) is site
            if is_known and caller.newest is site.api_key and caller.further is site.further_keys:
                self._uses[site.name, caller.digest] = now_ms()
                return caller.query, site
        query = first_values(fields_of(query_string))
        site = self.authorized_site(query, headers)
        if (key := query.get("apiKey")) and len(query_string) <= MAX_KEPT_QUERY_BYTES:
            if len(self._callers) >= MOST_KEPT_QUERIES:
                self._callers.clear()
            self._callers[query_string] = _Caller(query, site, site.api_key, site.further_keys, digest(key))
        return query, site

    def authorized_site(self, query: Mapping[str, str], headers: dict[bytes, bytes]) -> Site:
        """The site whose key the caller shows, in a time that tells nothing. Raises BadRequest: 400 without site or
        key, 401 for an unknown site and for a wrong key."""
        name, key = query.get("site", ""), key_in(dict(query), headers)
        if not name or not key:
            raise BadRequest(MISSING)
        site = self._sites.get(name)
        if not self.match(site, key) or site is None:
            if self._refused is not None:
                self._refused.tell(site=site and site.name, reason="wrong key" if site else "unknown site")
            raise BadRequest(INVALID, status=401)
        return site

    def match(self, site: Site | None, key: str) -> bool:
        """Whether the key is one of the site's, in a time that tells nothing; False for no site."""
        known = _NONE if site is None else self._known_of(site)
        given = digest(key)
        # Each is compared: the time does not tell which one is right.
        found = [compare_digest(given, expected) for expected in known.digests]
        if site is None or not any(found):
            return False
        self._uses[site.name, known.digests[found.index(True)]] = now_ms()
        return True

    def _known_of(self, site: Site) -> _KnownKeys:
        known = self._known.get(site.name)
        if known is None or known.newest is not site.api_key or known.further is not site.further_keys:
            digests = tuple(map(digest, site.keys))
            known = self._known[site.name] = _KnownKeys(site.api_key, site.further_keys, digests)
        return known
