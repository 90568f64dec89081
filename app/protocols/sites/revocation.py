"""DELETE /tickets: a site's backend revokes resume tickets, of all its users or of the users in a room."""

from collections.abc import Mapping

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from app.config.settings import Site
from app.errors import StoreUnavailable
from app.protocols.http_request import key_in, query_of
from app.protocols.site_keys import INVALID, MISSING, ApiKeys
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Tickets

NO_TICKETS = "This site has no resume tickets."
_RETRY_AFTER = {"Retry-After": "1"}

_log = structlog.get_logger(__name__)


def revocation_routes(sites: Mapping[str, Site], keys: ApiKeys, tickets: Tickets) -> list[BaseRoute]:
    """Returns the route for the node's builder. `sites` may change."""

    async def revoke(request: Request) -> Response:
        query = query_of(dict(request.scope))
        name, key = query.get("site", ""), key_in(query, dict(request.scope["headers"]))
        if not name or not key:
            return PlainTextResponse(MISSING, 400)
        # The check takes as long for an unknown site as for a wrong key.
        site = sites.get(name)
        if not keys.match(site, key) or site is None:
            return PlainTextResponse(INVALID, 401)
        if site.section(ResumeTicket) is None:
            return PlainTextResponse(NO_TICKETS, 400)
        rooms = request.query_params.getlist("room")
        if "" in rooms:
            return PlainTextResponse("room: expected a room, or no `room` for all of the site.", 400)
        try:
            await tickets.revoke(site, rooms)
        except StoreUnavailable as error:
            _log.error("tickets not revoked", site=name, reason=str(error))
            return PlainTextResponse("Nothing is revoked, try again.", 503, _RETRY_AFTER)
        _log.info("tickets revoked", site=name, rooms=len(rooms))
        return PlainTextResponse("OK")

    return [Route("/tickets", revoke, methods=["DELETE"])]
