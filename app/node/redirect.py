"""The port for plain HTTP beside the one for HTTPS: every request is answered with the same address under https."""

import re
from collections.abc import Callable

from app.protocols.http_request import Receive, Scope, Send

#: A name, an IPv4 address or an IPv6 address in brackets, then perhaps a port.
_HOST = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?\Z")
_HTTPS_PORT = 443
_SAFE = frozenset({"GET", "HEAD"})


class Redirect:
    """An ASGI application. Lives as long as the server."""

    def __init__(self, port: Callable[[], int]) -> None:
        """`port` is the port for HTTPS."""
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request or an upgrade to a WebSocket."""
        target = self._target(scope)
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        body = b"Use https." if target else b"expected a header Host"
        # 301 for old browsers. A POST has to keep its method and body.
        status = (301 if scope.get("method", "GET") in _SAFE else 308) if target else 400
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        headers += [(b"location", target)] if target else []
        await send({"type": f"{kind}.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": f"{kind}.body", "body": b"" if scope.get("method") == "HEAD" else body})

    def _target(self, scope: Scope) -> bytes | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        found = _HOST.match(hosts[0]) if len(hosts) == 1 else None
        path: bytes = scope.get("raw_path", b"/")
        if found is None or not path.startswith(b"/"):
            return None
        port = self._port()
        place = found[1] if port == _HTTPS_PORT else b"%b:%d" % (found[1], port)
        query: bytes = scope.get("query_string", b"")
        return b"https://" + place + path + (b"?" + query if query else b"")
