"""Orders of a site's backend over HTTP: a JSON object with the site's key goes in, JSON comes out.

An order may be repeated: the answer is 503 as long as a node has not carried it out.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.clock import now_ms
from app.config.settings import Site
from app.config.wording import matching
from app.core.address import MAX_ROOM_BYTES
from app.errors import BadRequest, RequestRefused, StoreError
from app.observe.counts import Counts
from app.observe.records import SITE_BACKEND
from app.protocols.http_request import query_of, read_body
from app.protocols.operations import Inputs
from app.protocols.site_keys import ApiKeys
from app.protocols.validation import decode_json, explain

#: The body of an order.
MAX_ORDER_BYTES = 16_384
_RETRY_AFTER = {"Retry-After": "1"}

#: A room in an order.
RoomName = Annotated[str, Meta(max_length=MAX_ROOM_BYTES), matching(r"^[^\x00]+\Z", "a text, not empty, without a NUL")]
InputsT = TypeVar("InputsT", bound=Inputs)


@dataclass(frozen=True)
class Done:
    """The outcome of an order on the nodes that have answered, as the body of the answer."""

    body: dict[str, int]
    silent_nodes: int = 0


def order_route(
    path: str,
    action: str,
    inputs_type: type[InputsT],
    carry_out: Callable[[Site, InputsT], Awaitable[Done]],
    sites: Mapping[str, Site],
    counts: Counts,
) -> Route:
    """Returns the route for the node's builder. `sites` may change. `carry_out` raises RequestRefused, StoreError. Each
    order stands in the audit as `action`."""
    keys = ApiKeys(sites, counts)
    decoder = msgspec.json.Decoder(inputs_type)

    async def obey(request: Request) -> Response:
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        try:
            site = keys.authorized_site(query_of(dict(request.scope)), headers)
            inputs = _read(decoder, await read_body(headers, request.receive, MAX_ORDER_BYTES))
            done = await carry_out(site, inputs)
        except (BadRequest, RequestRefused) as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except StoreError:
            return JSONResponse({"error": "Redis is away, try again."}, 503, _RETRY_AFTER)
        detail = msgspec.json.encode(inputs).decode()
        row = {"at": now_ms(), "operator": SITE_BACKEND, "action": action, "target": "", "detail": detail}
        counts.records.add("audit", site.name, row)
        if done.silent_nodes:
            body = {"error": "Not every node has answered, try again.", **done.body}
            return JSONResponse(body, 503, _RETRY_AFTER)
        return JSONResponse(done.body)

    return Route(path, obey, methods=["POST"])


def _read(decoder: "msgspec.json.Decoder[InputsT]", body: bytes) -> InputsT:
    try:
        inputs: InputsT = decode_json(decoder, body)
        return inputs
    except msgspec.ValidationError as error:
        raise BadRequest(explain(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Body: expected a JSON object in UTF-8.") from None
