"""GET /webhooks, POST /webhooks/retry and POST /webhooks/test, for callers with the site's key."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.config.settings import Site
from app.errors import RequestRefused, StoreError
from app.protocols.http_request import key_in, query_of
from app.protocols.site_keys import ApiKeys
from app.webhooks.hook_site import NO_WEBHOOK, HookSite

_RETRY_AFTER = {"Retry-After": "1"}

_log = structlog.get_logger(__name__)


Answer = Callable[[HookSite, dict[str, str]], Awaitable[dict[str, object]]]


def webhook_routes(sites: Mapping[str, Site], keys: ApiKeys, hooked: Mapping[str, HookSite]) -> list[BaseRoute]:
    """The routes; both mappings may change."""

    def endpoint(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            query = query_of(dict(request.scope))
            name = query.get("site", "")
            try:
                _check_key(keys, sites.get(name), name, key_in(query, dict(request.scope["headers"])))
                if name not in hooked:
                    raise RequestRefused(NO_WEBHOOK, "no_webhook")
                found = hooked[name]
                return JSONResponse({"ok": True, **await answer(found, query)})
            except RequestRefused as refusal:
                return _error(refusal.status, refusal.code, str(refusal))
            except StoreError as error:
                _log.error("webhook request failed", site=name if name in sites else None, reason=str(error))
                return _error(503, "store_away", "Redis is away, try again.", _RETRY_AFTER)

        return respond

    return [
        Route("/webhooks", endpoint(_show), methods=["GET"]),
        Route("/webhooks/retry", endpoint(_retry), methods=["POST"]),
        Route("/webhooks/test", endpoint(_test), methods=["POST"]),
    ]


def _check_key(keys: ApiKeys, site: Site | None, name: str, key: str) -> None:
    if not name or not key:
        raise RequestRefused("Missing query param 'site' or 'apiKey'.", "missing_key")
    # The check takes as long for an unknown site as for a wrong key.
    if not keys.match(site, key):
        raise RequestRefused("ApiKey invalid.", "wrong_key", 401)


async def _show(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    return await found.overview()


async def _retry(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    return {"retried": await found.send_again(query.get("id", ""), _since_ms(query.get("since", "")))}


def _since_ms(since: str) -> int:
    if not since:
        return 0
    try:
        moment = datetime.fromisoformat(since)
        if moment.tzinfo is None:
            raise ValueError
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise RequestRefused("since: expected a time such as 2026-11-27T10:00:00Z.", "bad_since") from None


async def _test(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    return {"attempt": await found.test()}


def _error(status: int, code: str, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"ok": False, "error": reason, "code": code}, status, headers)
