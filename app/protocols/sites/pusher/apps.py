"""The apps of Pusher's HTTP API: which site an app is, and whether a request is signed with one of its keys."""

from collections.abc import Callable, Mapping
from typing import Any

from app.clock import now_ms
from app.config.settings import Site
from app.protocols.sites.pusher.settings import PusherApp
from app.protocols.sites.pusher.signature import NotSigned, SignedRequest, check_time, has_signature

#: The same words for an unknown app, an unknown key and a wrong signature.
NOT_AUTHENTIC = (
    "Authentication failed: expected the id of an app, one of its keys, and the HMAC-SHA256 signature of "
    "method, path and query with the key's secret."
)


class PusherApps:
    """The apps of all sites of one node. Lives as long as the node."""

    def __init__(self, sites: Mapping[str, Site], clock_ms: Callable[[], int] = now_ms) -> None:
        """`sites` may change; `add` is told of each new and each changed one."""
        self._sites = sites
        self._clock_ms = clock_ms
        self._names: dict[str, str] = {}
        for site in sites.values():
            self.add(site)

    def add(self, site: Site) -> None:
        """Knows the app of one more site, or of a site whose settings have changed."""
        self.forget(site.name)
        if (app := site.section(PusherApp)) is not None:
            self._names[app.id] = site.name

    def forget(self, name: str) -> None:
        """Knows the app of a site no more."""
        for id in [id for id, known in self._names.items() if known == name]:
            del self._names[id]

    def site_of(self, app_id: str, request: SignedRequest) -> Site:
        """The site of an app for which the request is signed, in a time that does not tell which part is wrong. Raises
        NotSigned."""
        site = self._sites.get(self._names.get(app_id, ""))
        secret = _secrets_of(site).get(request.fields["auth_key"])
        if not has_signature(request, secret) or site is None:
            raise NotSigned(NOT_AUTHENTIC)
        check_time(request, self._clock_ms() / 1000)
        return site


def _secrets_of(site: Site | None) -> Mapping[str, Any]:
    app = None if site is None else site.section(PusherApp)
    return {} if app is None else app.secrets
