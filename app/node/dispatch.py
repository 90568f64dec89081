"""The dispatcher of requests: one ASGI application that hands each request to another one, by its path.

Knows only paths. The builder passes the applications in.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from app.protocols.http_request import Receive, Scope, Send
from app.protocols.protocol import AsgiApp, MountedPath

_SOCKET_PATH = "/socket.io/"


class Dispatcher:
    """Lives as long as the server. Busy paths go straight to their endpoints, the rest through Starlette."""

    def __init__(
        self,
        sockets: AsgiApp,
        endpoints: Mapping[str, AsgiApp],
        applications: Mapping[str, AsgiApp],
        routes: Sequence[BaseRoute],
    ) -> None:
        """`sockets` serves Socket.IO, `endpoints` single paths, `applications` all paths below `/<their name>/`."""
        self._sockets = sockets
        self._endpoints = {"/healthcheck": _answer_ok, **endpoints}
        self._applications = dict(applications)
        self._pages = Starlette(routes=list(routes))
        self._page_paths = frozenset(getattr(route, "path", "") for route in routes)
        self._refuses_websockets = False
        self._mounted: dict[MountedPath, tuple[AsgiApp, Scope]] = {}

    def refuse_websockets(self) -> None:
        """Refuses WebSockets from here on: the server is about to end, and its clients are to use another node."""
        self._refuses_websockets = True

    def mount(self, name: str, site: str, paths: Mapping[MountedPath, str]) -> None:
        """Serves a site of an application also at other paths. Each stands for a path behind `/<name>/<site>`."""
        for mounted, rest in paths.items():
            own = {
                "path": f"/{name}/{site}{rest}",
                "raw_path": f"/{name}/{quote(site, safe='')}{rest}".encode(),
                "is_mounted": True,
            }
            self._mounted[mounted] = (self._applications[name], own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket."""
        path: str = scope.get("path", "")
        kind: str = scope["type"]
        if kind == "http" and (endpoint := self._endpoints.get(path)) is not None:
            await endpoint(scope, receive, send)
        elif self._refuses_websockets and kind == "websocket":
            await _refuse_websocket(send)
        elif (path + "/").startswith(_SOCKET_PATH) and path not in self._page_paths:
            await self._sockets(scope, receive, send)
        elif (application := self._applications.get(path.split("/", 2)[1] if path.startswith("/") else "")) is not None:
            await application(scope, receive, send)
        elif (kind, path) in self._mounted:
            mounted, own = self._mounted[kind, path]
            await mounted(scope | own, receive, send)
        else:
            await self._pages(scope, receive, send)


async def _refuse_websocket(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
    await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"Server is shutting down"})


async def _answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
