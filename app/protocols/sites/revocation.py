"""DELETE /tickets: a site's backend revokes resume tickets, of all its users or of the users in a room, and with them
the sessions that another protocol has given to these users.

An operator may do the same."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from app.clock import now_ms
from app.config.settings import Site
from app.errors import RequestRefused, StoreError
from app.observe.records import SITE_BACKEND, TICKETS_REVOKED, NodeRecords
from app.protocols.handling import EventHandling
from app.protocols.http_request import fields_in, first_values, key_in
from app.protocols.operations import Call, Inputs, Operation, Role, Words
from app.protocols.site_keys import INVALID, MISSING, ApiKeys
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Tickets

NO_TICKETS = "This site has no resume tickets."
_RETRY_AFTER = {"Retry-After": "1"}
#: The rooms in one revocation of an operator, and in the audit.
_MOST_ROOMS = 100
#: The fields of the query of a backend's revocation.
_MOST_FIELDS = 2_000

_log = structlog.get_logger(__name__)


class Revocation:
    """All that was given to the clients of a site, and is taken back. Lives as long as the node."""

    def __init__(self, tickets: Tickets, handlings: Sequence[EventHandling] = ()) -> None:
        """`handlings` may grow."""
        self._tickets = tickets
        self._handlings = handlings

    def has_any(self, site: Site) -> bool:
        """Whether there is something to revoke at this site."""
        return site.section(ResumeTicket) is not None or any(one.serves(site) for one in self._handlings)

    async def revoke(self, site: Site, rooms: Sequence[str]) -> None:
        """Revokes it for all users in any of the rooms, or for all. Raises StoreError."""
        await self.revoke_tickets(site, rooms)
        await self.revoke_sessions(site, rooms)

    async def revoke_tickets(self, site: Site, rooms: Sequence[str]) -> None:
        """Revokes the tickets, which let clients in. Raises StoreUnavailable."""
        if site.section(ResumeTicket) is not None:
            await self._tickets.revoke(site, rooms)

    async def revoke_sessions(self, site: Site, rooms: Sequence[str], device: str | None = None) -> None:
        """Revokes the sessions of other protocols, on one device or on all; their connections end soon. Raises
        StoreError."""
        for handling in self._handlings:
            if handling.serves(site):
                await handling.revoke(site, rooms, device)


def revocation_routes(
    sites: Mapping[str, Site], keys: ApiKeys, revocation: Revocation, records: NodeRecords
) -> list[BaseRoute]:
    """Returns the route for the node's builder. `sites` may change. A revocation stands in the audit, and so in the
    trace of its users."""

    async def revoke(request: Request) -> Response:
        # A room a field, beside the fields of every request.
        fields = fields_in(dict(request.scope), _MOST_FIELDS + 1)
        query = first_values(fields)
        name, key = query.get("site", ""), key_in(query, dict(request.scope["headers"]))
        if not name or not key:
            return PlainTextResponse(MISSING, 400)
        # The check takes as long for an unknown site as for a wrong key.
        site = sites.get(name)
        if not keys.match(site, key) or site is None:
            return PlainTextResponse(INVALID, 401)
        if not revocation.has_any(site):
            return PlainTextResponse(NO_TICKETS, 400)
        if len(fields) > _MOST_FIELDS:
            return PlainTextResponse(f"Expected at most {_MOST_FIELDS} fields in the query.", 400)
        rooms = [value for name, value in fields if name == "room"]
        if "" in rooms:
            return PlainTextResponse("room: expected a room, or no `room` for all of the site.", 400)
        try:
            await revocation.revoke(site, rooms)
        except StoreError as error:
            _log.error("tickets not revoked", site=name, reason=str(error))
            return PlainTextResponse("Nothing is revoked, try again.", 503, _RETRY_AFTER)
        _log.info("tickets revoked", site=name, rooms=len(rooms))
        detail = msgspec.json.encode({"rooms": rooms[:_MOST_ROOMS]}).decode()
        row = {"at": now_ms(), "operator": SITE_BACKEND, "action": TICKETS_REVOKED, "target": "", "detail": detail}
        records.add("audit", name, row)
        return PlainTextResponse("OK")

    return [Route("/tickets", revoke, methods=["DELETE"])]


class RevocationInputs(Inputs, frozen=True, kw_only=True):
    """The tickets to revoke."""

    #: The tickets with one of these rooms; none: all of the site.
    rooms: Annotated[tuple[Words, ...], Meta(max_length=_MOST_ROOMS)] = ()


def ticket_operations(revocation: Revocation) -> list[Operation]:
    """The revocation for operators."""

    async def revoke(call: Call) -> dict[str, Any]:
        site = call.known_site
        if not revocation.has_any(site):
            raise RequestRefused(NO_TICKETS, "no_tickets", 409)
        await revocation.revoke(site, call.given.rooms)
        return {"ok": True}

    summary, path = "Revoke resume tickets, of the users in rooms or of all", "/sites/{site}/tickets/revoke"
    return [Operation(TICKETS_REVOKED, summary, "POST", path, Role.OPERATOR, revoke, RevocationInputs, True)]
