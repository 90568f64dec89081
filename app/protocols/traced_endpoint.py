"""A busy endpoint on a node whose tracing is on: its requests may have spans."""

from collections.abc import MutableMapping
from typing import Any

from app.protocols.http_request import Receive, Scope, Send
from app.protocols.protocol import AsgiApp
from app.tracing.send_request import SendRequest, current_request


class TracedEndpoint:
    """An ASGI application around another one. Lives as long as the node."""

    def __init__(self, application: AsgiApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        # An answer that takes the way past ASGI is one of 200.
        status = 200

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = SendRequest(scope.get("path", "").rstrip("/"), scope["headers"])
        token = current_request.set(request)
        try:
            await self._application(scope, receive, note)
        except BaseException:
            status = 500
            raise
        finally:
            current_request.reset(token)
            request.end(status)
