"""Asks a site's bindUrl for the user of a bind key."""

import msgspec
import structlog

from app.backends.exact_pool import ExactPool
from app.backends.exchange import BackendError, Header
from app.backends.site_pools import SitePools
from app.config.settings import Site
from app.errors import AuthRefused
from app.protocols.topics.settings import Topics

_log = structlog.get_logger(__name__)

# The content type that es-web-notify declared, although it sent the bare key.
_HEADERS = {"content-type": "application/json"}


class HttpBindDirectory:
    """The port BindDirectory over HTTP. Lives as long as the server, which calls `aclose`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._pools = SitePools(timeout_seconds, ExactPool)

    async def fetch_user(self, site: Site, bind_key: str) -> object:
        """The answer of bindUrl to the key; None when the status is not 200.
        Raises AuthRefused without a usable answer."""
        settings = site.require_section(Topics)
        url = settings.bind_url
        assert url, "only asked for sites that have a bindUrl"
        try:
            answer = await self._pools.exchange(
                site.name, settings.bind_method, url, _headers(settings), bind_key.encode("utf-8", "replace")
            )
            return msgspec.json.decode(answer.body) if answer.status == 200 else None
        except BackendError as error:
            _log.warning("bind failed", site=site.name, reason=str(error), error=error.cause)
            raise AuthRefused(f"Bind error: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            _log.warning("bind failed", site=site.name, reason="no JSON")
            raise AuthRefused("Bind error: expected the JSON of a user id") from None

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._pools.aclose()


def _headers(settings: Topics) -> list[Header]:
    given = {name.lower(): value for name, value in settings.bind_headers.items()}
    return [(name.encode(), value.encode()) for name, value in {**_HEADERS, **given}.items()]
