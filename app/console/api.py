"""The operators' API: every operation under `/api/v1`, for programs that show a token. No cookie counts here."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.console.desk import Desk, check_role
from app.console.entry import Entry
from app.console.failures import refusal_of
from app.console.openapi import API_PREFIX, describe
from app.console.parameters import MAX_PARAMETERS, gathered, names_in_path, read_json
from app.core.network import network_of
from app.errors import RecadoError, RequestRefused
from app.protocols.http_request import fields_in, read_body
from app.protocols.operations import Actor, Operation

#: The longest body of a request.
MAX_BODY_BYTES = 262_144
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_RETRY_AFTER_SECONDS = "1"
_UNKNOWN = RequestRefused("There is no such path or method.", "unknown_path", 404)


class OperatorApi:
    """Answers every path below `/api`. Lives as long as the node."""

    def __init__(self, desk: Desk, entry: Entry) -> None:
        self._desk = desk
        self._entry = entry
        self._page = msgspec.json.encode(describe(desk.operations.values()))
        routes = [Route("/api/openapi.json", self._answer_page), *self._routes()]
        self.app = Starlette(routes=routes, exception_handlers={RecadoError: _refuse, 404: _refuse, 405: _refuse})

    def _routes(self) -> Iterable[Route]:
        for operation in self._desk.operations.values():
            endpoint = partial(self._answer, operation)
            yield Route(API_PREFIX + operation.path, endpoint, methods=[operation.method])

    async def _answer_page(self, request: Request) -> Response:
        """The description, for anybody: it holds nothing of any site."""
        return Response(self._page, media_type="application/json", headers=_HEADERS)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        caller = await self._caller(request)
        check_role(operation, caller)
        return _json(200, await self._desk.perform(operation, caller, await self._given(operation, request)))

    async def _caller(self, request: Request) -> Actor:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        async with self._desk.turns.turn(_asker_at(request)):
            owner = await self._entry.find_owner(token.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            raise RequestRefused("Expected `Authorization: Bearer` with a token of an operator.", "unauthorized", 401)
        return owner.caller

    async def _given(self, operation: Operation, request: Request) -> dict[str, Any]:
        fields = fields_in(dict(request.scope), MAX_PARAMETERS + 1)
        query = gathered(operation.parameters, fields, drops_empty=False)
        if operation.is_action:
            body = await read_body(dict(request.scope["headers"]), request.receive, MAX_BODY_BYTES)
            query |= read_json(body)
        return {**query, **names_in_path(request.path_params)}


def _asker_at(request: Request) -> str:
    """The asker with a token whose operator is not known yet: all of an address, so that none keeps others out. No
    operator has such a name."""
    return "\n" + network_of(request.client.host if request.client is not None else "")


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error) if isinstance(error, RecadoError) else _UNKNOWN
    answer = _json(refusal.status, {"ok": False, "error": str(refusal), "code": refusal.code})
    if refusal.status in (429, 503):
        answer.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if refusal.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _json(status: int, value: object) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json", headers=_HEADERS)
