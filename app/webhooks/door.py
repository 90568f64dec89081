"""GET /webhooks, POST /webhooks/retry and POST /webhooks/test, for callers with the site's key."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.clock import rfc3339
from app.config.settings import Site
from app.errors import StoreError
from app.protocols.http_request import key_in, query_of
from app.protocols.site_keys import ApiKeys
from app.webhooks.attempt import record_of
from app.webhooks.event import HookPost
from app.webhooks.redis_outbox import HookOutbox
from app.webhooks.site_sender import SiteSender

#: Posts and attempts of one answer.
MAX_SHOWN = 100
_MAX_ID_CHARACTERS = 64
_RETRY_AFTER = {"Retry-After": "1"}

_log = structlog.get_logger(__name__)


class HookSite(Struct):
    """One site with a webhook, on one node. Lives as long as the node."""

    site: Site
    outbox: HookOutbox
    sender: SiteSender
    is_testing: bool = False


class _Refusal(Exception):
    """The request is refused"""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


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
                    raise _Refusal(400, "no_webhook", "This site has no webhook.")
                found = hooked[name]
                return JSONResponse({"ok": True, **await answer(found, query)})
            except _Refusal as refusal:
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
        raise _Refusal(400, "missing_key", "Missing query param 'site' or 'apiKey'.")
    # The check takes as long for an unknown site as for a wrong key.
    if not keys.match(site, key):
        raise _Refusal(401, "wrong_key", "ApiKey invalid.")


async def _show(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    return await found.outbox.overview(MAX_SHOWN)


async def _retry(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    post = query.get("id", "")
    if len(post) > _MAX_ID_CHARACTERS:
        raise _Refusal(400, "bad_id", "id: expected the id of a webhook POST.")
    retried = await found.outbox.retry(post, _since_ms(query.get("since", "")))
    if post and not retried:
        raise _Refusal(404, "not_found", "No such POST is parked, or waits.")
    _log.info("webhook retried", site=found.site.name, posts=retried)
    return {"retried": retried}


def _since_ms(since: str) -> int:
    if not since:
        return 0
    try:
        moment = datetime.fromisoformat(since)
        if moment.tzinfo is None:
            raise ValueError
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _Refusal(400, "bad_since", "since: expected a time such as 2026-11-27T10:00:00Z.") from None


async def _test(found: HookSite, query: dict[str, str]) -> dict[str, object]:
    """Sends an event of the type `webhook.test` at once, past the outbox and whether or not the webhook is off."""
    if found.is_testing:
        raise _Refusal(429, "busy", "A test of this webhook is under way.")
    found.is_testing = True
    try:
        at_ms = int(time.time() * 1000)
        post = HookPost(f"msg_{secrets.token_hex(12)}", frozenset(), (), "webhook.test", at_ms)
        at = rfc3339(at_ms)
        body = f'{{"type":"events","timestamp":"{at}","data":{{"events":[{{"type":"webhook.test","at":"{at}"}}]}}}}'
        answer = await found.sender.exchange(post.id, at_ms, body.encode())
        attempt = record_of(found.site.name, post, at_ms, answer, "test")
        await found.outbox.note(post, attempt)
        return {"attempt": attempt.shown()}
    finally:
        found.is_testing = False


def _error(status: int, code: str, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"ok": False, "error": reason, "code": code}, status, headers)
