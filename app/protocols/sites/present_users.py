"""GET /presence: a site's backend, or an operator, sees the users in a room, over all nodes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.clock import rfc3339
from app.config.settings import Site
from app.errors import BadRequest, RequestRefused, StoreError
from app.observe.counts import Counts
from app.protocols.http_request import query_of
from app.protocols.operations import Call, Inputs, Operation, Role
from app.protocols.site_keys import ApiKeys
from app.protocols.sites.orders import RoomName
from app.protocols.sites.presence_rooms import has_presence
from app.protocols.sites.presence_store import PresenceStore
from app.protocols.turns import Turns
from app.protocols.validation import explain

PATH = "/presence"
OPERATION = "presence.show"
#: The requests of one site under way on one node: each looks at every device of its room.
MOST_PRESENCE_QUESTIONS = 4
_QUESTION_SECONDS = 5.0


class PresenceInputs(Inputs, frozen=True, kw_only=True):
    """A room."""

    room: RoomName


class PresenceQuestions:
    """The questions for users in rooms. Lives as long as the node."""

    def __init__(self, store: PresenceStore) -> None:
        self._store = store
        self._turns = Turns(MOST_PRESENCE_QUESTIONS, _QUESTION_SECONDS, "a site")

    async def show(self, site: Site, inputs: PresenceInputs) -> dict[str, Any]:
        """The users of a room, or their number where they are many. Raises RequestRefused, StoreError."""
        _check(site, inputs)
        room = inputs.room.lower()
        async with self._turns.turn(site.name):
            found = await self._store.present_users(site, room)
        since, devices = found.since, {user: len(handles) for user, handles in found.devices.items()}
        shown: dict[str, Any] = {"room": room, "count": len(since), "devices": sum(devices.values())}
        if site.presence is not None and len(since) <= site.presence.members:
            users = sorted(since.items(), key=lambda member: (member[1], member[0]))
            shown["users"] = [{"user": user, "devices": devices[user], "since": rfc3339(at)} for user, at in users]
        return shown


def presence_routes(sites: Mapping[str, Site], questions: PresenceQuestions, counts: Counts) -> list[BaseRoute]:
    """Returns the route for the node's builder. `sites` may change."""
    keys = ApiKeys(sites, counts)

    async def answer(request: Request) -> Response:
        query = query_of(dict(request.scope))
        try:
            site = keys.authorized_site(query, dict(request.scope["headers"]))
            return JSONResponse(await questions.show(site, _inputs_of(query)))
        except (BadRequest, RequestRefused) as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except StoreError:
            return JSONResponse({"error": "Redis is away, try again."}, 503, {"Retry-After": "1"})

    return [Route(PATH, answer, methods=["GET"])]


def presence_operations(questions: PresenceQuestions) -> list[Operation]:
    """The same for operators."""

    async def show(call: Call) -> dict[str, Any]:
        return await questions.show(call.known_site, call.given)

    summary, path = "Show the users in a room", "/sites/{site}/presence"
    return [Operation(OPERATION, summary, "GET", path, Role.VIEWER, show, PresenceInputs, suits=_suits)]


def _suits(site: Site) -> bool:
    return site.presence is not None


def _inputs_of(query: Mapping[str, str]) -> PresenceInputs:
    """Raises BadRequest."""
    try:
        return msgspec.convert({"room": query.get("room", "")}, PresenceInputs)
    except msgspec.ValidationError as error:
        raise BadRequest(explain(str(error))) from None


def _check(site: Site, inputs: PresenceInputs) -> None:
    """Raises RequestRefused."""
    if site.presence is None:
        raise RequestRefused("This site has no presence, see its setting `presence`.")
    if not has_presence(site, inputs.room):
        raise RequestRefused("room: expected a room of many users that the site's setting `presence` names.")
