"""The dispatcher of requests: one ASGI application that hands each request to another one, by its path.

Knows only paths. The builder passes the applications in.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from app.protocols.http_request import Receive, Scope, Send
from app.protocols.protocol import ANY_REST, AsgiApp, MountedPath, SitePath
from app.transport.query import unescaped

_SOCKET_PATH = "/socket.io/"
#: Answers 404, or refuses a WebSocket.
_NOTHING = Starlette()
#: An application, and the path that it knows a request by.
Mounted = tuple[AsgiApp, Scope]


class _Mount:
    """The paths at which one or several sites are mounted. Lives as long as the dispatcher."""

    def __init__(self) -> None:
        self._whole: dict[MountedPath, Mounted] = {}
        #: Kind -> beginnings of paths, the longest first.
        self._beginnings: dict[str, list[tuple[str, Mounted]]] = {}

    def add(self, place: MountedPath, mounted: Mounted) -> None:
        """Adds a path."""
        kind, path = place
        if not path.endswith(ANY_REST):
            self._whole[place] = mounted
            return
        beginnings = self._beginnings.setdefault(kind, [])
        beginnings.append((path.removesuffix(ANY_REST), mounted))
        beginnings.sort(key=lambda one: -len(one[0]))

    def find(self, kind: str, path: str) -> Mounted | None:
        """The application of a path, and its own path there."""
        found = self._whole.get((kind, path))
        if found is None:
            beginnings = self._beginnings.get(kind, ())
            found = next((mounted for beginning, mounted in beginnings if path.startswith(beginning)), None)
        return found


class SocketServing(Protocol):
    """The server of Socket.IO, as this module sees it."""

    def serves_at_once(self, query: bytes) -> bool:
        """Whether a call for a WebSocket with this query ends without waiting."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket."""


class Dispatcher:
    """Lives as long as the server. Busy paths go straight to their endpoints, the rest through Starlette."""

    def __init__(
        self,
        sockets: SocketServing,
        endpoints: Mapping[str, AsgiApp],
        applications: Mapping[str, AsgiApp],
        routes: Sequence[BaseRoute],
    ) -> None:
        """`sockets` serves Socket.IO, `endpoints` single paths, `applications` all paths below `/<their name>/`."""
        self._sockets = sockets
        self._endpoints = {"/healthcheck": _answer_ok, **endpoints}
        self._applications = dict(applications)
        self.serve_pages(routes)
        self._refuses_websockets = False
        self._mounted = _Mount()
        self._site_paths: dict[bytes, SitePath] = {}
        self._ports: dict[int, _Mount] = {}

    def serve_pages(self, routes: Sequence[BaseRoute]) -> None:
        """Serves these routes, and those before no more."""
        self._pages = Starlette(routes=list(routes))
        self._page_paths = frozenset(getattr(route, "path", "") for route in routes)

    def refuse_websockets(self) -> None:
        """Refuses WebSockets from here on: the server is about to end, and its clients are to use another node."""
        self._refuses_websockets = True

    def mount(self, name: str, site: str, paths: Mapping[MountedPath, str], ports: Iterable[int] = ()) -> None:
        """Serves a site of an application also at other paths. Each stands for a path behind `/<name>/<site>`. On these
        further ports of the server nothing else is served."""
        served = _Mount()
        for place, rest in paths.items():
            own = {
                "path": f"/{name}/{site}{rest}",
                "raw_path": f"/{name}/{quote(site, safe='')}{rest}".encode(),
                "is_mounted": True,
            }
            for mount in (self._mounted, served):
                mount.add(place, (self._applications[name], own))
        self._ports |= dict.fromkeys(ports, served)

    def serve_sites(self, paths: Mapping[str, SitePath]) -> None:
        """Serves `/<site>/<segment>` and the paths below for each of these segments."""
        self._site_paths |= {segment.encode(): served for segment, served in paths.items()}

    def serve_port(self, port: int, application: AsgiApp) -> None:
        """On this further port of the server the application answers every path, and nothing else is served."""
        served = _Mount()
        served.add(("http", ANY_REST), (application, {}))
        self._ports[port] = served

    def serves_at_once(self, path: str, query: bytes) -> bool:
        """Whether a call for this WebSocket ends without waiting, so that the transport needs no task for it."""
        if self._ports or self._refuses_websockets or not self._is_socket_path(path):
            return False
        return self._sockets.serves_at_once(query)

    def _is_socket_path(self, path: str) -> bool:
        return (path + "/").startswith(_SOCKET_PATH) and path not in self._page_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket."""
        path: str = scope.get("path", "")
        kind: str = scope["type"]
        if self._ports and (served := self._ports.get(_port_of(scope))) is not None:
            await self._serve_port(served, scope, receive, send)
        elif kind == "http" and (endpoint := self._endpoints.get(path)) is not None:
            await endpoint(scope, receive, send)
        elif self._refuses_websockets and kind == "websocket":
            await _refuse_websocket(send)
        elif self._is_socket_path(path):
            await self._sockets(scope, receive, send)
        elif (application := self._applications.get(path.split("/", 2)[1] if path.startswith("/") else "")) is not None:
            await application(scope, receive, send)
        elif kind == "http" and (of_site := self._of_site(scope)) is not None:
            await of_site(scope, receive, send)
        elif (found := self._mounted.find(kind, path)) is not None:
            await found[0](scope | found[1], receive, send)
        else:
            await self._pages(scope, receive, send)

    def _of_site(self, scope: Scope) -> SitePath | None:
        """The paths of a site that the request is for. A slash in the name of a site is no slash of the path."""
        segments = (scope.get("raw_path") or b"").split(b"/", 3)
        served = self._site_paths.get(segments[2]) if len(segments) > 2 else None
        is_served = served is not None and served.serves(unescaped(segments[1]))
        return served if is_served else None

    async def _serve_port(self, served: _Mount, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request on a port of the server that a protocol replaces."""
        kind: str = scope["type"]
        found = served.find(kind, scope.get("path", ""))
        if self._refuses_websockets and kind == "websocket":
            await _refuse_websocket(send)
        elif found is not None:
            await found[0](scope | found[1], receive, send)
        else:
            await _NOTHING(scope, receive, send)


def _port_of(scope: Scope) -> int:
    """The port of this server that the request came to; 0: a socket without a port."""
    server = scope.get("server")
    return (server[1] or 0) if server else 0


async def _refuse_websocket(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
    await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"Server is shutting down"})


async def _answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
