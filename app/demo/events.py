"""The receiver of the demo's webhook: it keeps the events as a tenant's backend would, and shows them to whoever asks.

It knows Standard Webhooks alone (https://www.standardwebhooks.com/), and nothing of how Recado signs.
"""

import base64
import hashlib
import hmac
from collections import deque
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.errors import BadRequest
from app.protocols.http_request import read_body

#: As public as the demo's key.
SECRET = "whsec_" + base64.b64encode(b"the demo of Recado, no secret").decode()
#: The events that are shown, and the longest request: one carries at most 100 events.
MAX_EVENTS = 50
MAX_EVENTS_BYTES = 1_000_000


class _Data(msgspec.Struct):
    events: list[dict[str, Any]]


class _Told(msgspec.Struct):
    data: _Data


class Events:
    """The newest events that this process was told. Lives as long as the node."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    async def receive(self, request: Request) -> Response:
        """Keeps the events of a signed POST: 204. Without the right signature 401; of another form 400."""
        headers = dict(request.scope["headers"])
        try:
            body = await read_body(headers, request.receive, MAX_EVENTS_BYTES)
            if not _is_signed(headers, body):
                raise BadRequest("webhook-signature: expected that of the demo's secret.", status=401)
            told = msgspec.json.decode(body, type=_Told)
        except BadRequest as error:
            return PlainTextResponse(str(error), error.status)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return PlainTextResponse(f"Body: expected events: {error}.", 400)
        self._events.extend(told.data.events)
        return Response(status_code=204)

    async def show(self, request: Request) -> Response:
        """The events, oldest first."""
        return JSONResponse(list(self._events), headers={"Cache-Control": "no-store"})


def _is_signed(headers: dict[bytes, bytes], body: bytes) -> bool:
    content = b".".join((headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b""), body))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    return any(hmac.compare_digest(expected, one) for one in headers.get(b"webhook-signature", b"").split())
