"""A server as a backend sees it: an address for HTTP requests, and each site's key for /send."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import httpx


class Endpoint:
    """An HTTP client for one server. Lives as long as the server's user; `close_http` closes its connections."""

    def __init__(self, sites: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the sites' keys."""
        self.sites = sites
        self._http = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=20))

    def trust(self, context: ssl.SSLContext) -> None:
        """Send requests with this context from here on, for a server with TLS."""
        self._http.close()
        self._http = httpx.Client(timeout=60, verify=context)

    @property
    def url(self) -> str:
        """The URL on which the server listens."""
        raise NotImplementedError

    def close_http(self) -> None:
        """Close the connections that requests have left open."""
        self._http.close()

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send any request."""
        return self._http.request(method, self.url + path, **request)

    def post(self, path: str = "/send", **request: Any) -> httpx.Response:
        """POST to a path."""
        return self.request("POST", path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        """GET a path."""
        return self.request("GET", path, **request)

    def key(self, site: str) -> str:
        """Return the site's apiKey as text."""
        return str(self.sites[site]["apiKey"])

    def try_send(self, site: str, body: Mapping[str, Any], resync: bool = False, **request: Any) -> httpx.Response:
        """POST /send with this JSON body and the site's key; return the answer, whatever it is."""
        query = {"site": site, "apiKey": self.key(site), "resync": "true" if resync else "false"}
        return self.post(params=query, json=dict(body), **request)

    def send(self, site: str, rooms: str | list[str], event: str, *args: Any, resync: bool = False) -> None:
        """Send an event and require the answer `200 OK`."""
        answer = self.try_send(site, {"rooms": rooms, "event": event, "args": list(args)}, resync)
        assert (answer.status_code, answer.text) == (200, "OK")
