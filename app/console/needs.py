"""The console of a server that lacks something: every path says what that is."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.protocols.http_request import Receive, Scope, Send


class Needs:
    """Answers every path with 503. Lives as long as the node."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        response: Response = PlainTextResponse(self._text, 503)
        if Request(scope).url.path.startswith("/api/"):
            response = JSONResponse({"ok": False, "error": self._text, "code": "console_off"}, 503)
        await response(scope, receive, send)
