"""Which part of the server answers a request, by its path: the one ASGI application, made of the others.

Knows paths alone; the parts are handed in by the builder.
"""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from app.config.settings import Mounts
from app.protocols.http_request import Receive, Scope, Send

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_SOCKET_PATH = "/socket.io/"
#: Kind of scope and path of the servers that a protocol takes the place of -> the protocol.
_MOUNTED = {
    ("websocket", "/"): "channels",
    ("http", "/channel/create"): "channels",
    ("http", "/channel/ping"): "channels",
    ("http", "/channel/delete"): "channels",
    ("http", "/push"): "channels",
    # As under /channels/<site>.
    ("http", "/channel/create/"): "channels",
    ("http", "/channel/ping/"): "channels",
    ("http", "/channel/delete/"): "channels",
    ("http", "/push/"): "channels",
    ("http", "/"): "topics",
    ("http", "/event"): "topics",
    ("http", "/connections"): "topics",
    ("http", "/state"): "topics",
    ("http", "/memory"): "topics",
    ("http", "/alive"): "topics",
}


class Dispatcher:
    """Lives as long as the server. The two busy paths go straight to their endpoints, the rest through Starlette."""

    def __init__(self, send: AsgiApp, sockets: AsgiApp, routes: list[BaseRoute], doors: Mapping[str, AsgiApp]) -> None:
        """`doors` are the protocols that are served under `/<their name>/<site>`; `routes` what is left."""
        self._send = send
        self._sockets = sockets
        self._pages = Starlette(routes=routes)
        self._page_paths = frozenset(getattr(route, "path", "") for route in routes)
        self._doors = dict(doors)
        self._refuses_websockets = False
        self._mounted: dict[tuple[str, str], tuple[AsgiApp, Scope]] = {}

    def refuse_websockets(self) -> None:
        """From here on: the server is about to end, its clients shall go elsewhere."""
        self._refuses_websockets = True

    def mount(self, mounts: Mounts) -> None:
        """Serves a site of a protocol also at the original paths."""
        for (kind, path), protocol in _MOUNTED.items():
            site = getattr(mounts, protocol)
            if site is not None:
                rest = "" if path == "/" else path
                own = {
                    "path": f"/{protocol}/{site}{rest}",
                    "raw_path": f"/{protocol}/{quote(site, safe='')}{rest}".encode(),
                }
                self._mounted[kind, path] = (self._doors[protocol], own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket."""
        path: str = scope.get("path", "")
        kind: str = scope["type"]
        if path == "/send" and kind == "http":
            await self._send(scope, receive, send)
        elif path == "/healthcheck" and kind == "http":
            await _answer_ok(send)
        elif self._refuses_websockets and kind == "websocket":
            await _refuse_websocket(send)
        elif (path + "/").startswith(_SOCKET_PATH) and path not in self._page_paths:
            await self._sockets(scope, receive, send)
        elif (door := self._doors.get(path.split("/", 2)[1] if path.startswith("/") else "")) is not None:
            await door(scope, receive, send)
        elif (kind, path) in self._mounted:
            mounted, own = self._mounted[kind, path]
            await mounted(scope | own, receive, send)
        else:
            await self._pages(scope, receive, send)


async def _refuse_websocket(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
    await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"Server is shutting down"})


async def _answer_ok(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
