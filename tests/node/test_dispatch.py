"""The dispatch of paths to the parts of the server, and the original paths of the servers that a protocol replaces."""

from typing import Any
from urllib.parse import unquote

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.node.dispatch import Dispatcher
from app.protocols.channels.protocol import CHANNELS
from app.protocols.protocol import AsgiApp
from app.protocols.topics.protocol import TOPICS


class Part:
    """A part of the server that records its calls as (path, raw path). Lives for one test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def serves_at_once(self, query: bytes) -> bool:
        """As the server of Socket.IO."""
        return b"sid=" not in query

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Records the call."""
        self.asked.append((scope["path"], scope.get("raw_path", b"")))


class Server:
    """A dispatcher and its parts. Lives for one test."""

    def __init__(self, mounts: dict[str, str] | None = None, ports: tuple[int, ...] = ()) -> None:
        self.parts = {name: Part() for name in ("send", "sockets", "channels", "topics")}
        applications: dict[str, AsgiApp] = {name: self.parts[name] for name in ("channels", "topics")}
        routes = [Route(path, lambda request: PlainTextResponse("page")) for path in ("/page", "/socket.io/page.js")]
        endpoints: dict[str, AsgiApp] = {"/send": self.parts["send"]}
        self.dispatch = Dispatcher(self.parts["sockets"], endpoints, applications, routes)
        for spec in (CHANNELS, TOPICS):
            if mounts and spec.name in mounts:
                self.dispatch.mount(spec.name, mounts[spec.name], spec.mounts, ports if spec is CHANNELS else ())
        self.sent: list[Any] = []

    async def ask(self, path: str, kind: str = "http", port: int = 80) -> list[tuple[str, str]]:
        """Sends one request, and returns the parts that were called so far, with their paths."""
        scope = {"type": kind, "path": path, "method": "GET", "headers": [], "query_string": b"", "root_path": ""}
        scope["server"] = ("127.0.0.1", port)

        async def receive() -> Any:
            return {"type": "websocket.connect" if kind == "websocket" else "http.request", "body": b""}

        async def send(event: Any) -> None:
            self.sent.append(event)

        await self.dispatch(scope, receive, send)
        return [(name, asked[0]) for name, part in self.parts.items() for asked in part.asked]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/send", "send"),
        ("/socket.io", "sockets"),
        ("/socket.io/", "sockets"),
        ("/socket.io/socket.io", "sockets"),
        ("/channels/shop/push", "channels"),
        ("/channels/shop", "channels"),
        ("/topics/shop/registry/a/b", "topics"),
    ],
)
async def test_paths_of_the_parts(path: str, part: str) -> None:
    """Each path is answered by the part that it belongs to."""
    assert await Server().ask(path) == [(part, path)]


async def test_websockets_of_a_server_that_ends() -> None:
    """On a server that ends, WebSockets of every protocol are refused with 503 and Retry-After. Requests are
    answered."""
    server = Server()
    server.dispatch.refuse_websockets()
    for path in ("/socket.io/", "/channels/shop", "/"):
        assert await server.ask(path, "websocket") == []
        start, body = server.sent[-2:]
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
        assert (b"retry-after", b"1") in start["headers"]
        assert body["body"] == b"Server is shutting down"
    assert await server.ask("/send") == [("send", "/send")]
    assert await server.ask("/socket.io/") == [("send", "/send"), ("sockets", "/socket.io/")]


@pytest.mark.parametrize("path", ["/page", "/socket.io/page.js", "/healthcheck"])
async def test_pages(path: str) -> None:
    """Pages are served, also a page below the path of the sockets."""
    server = Server()
    assert await server.ask(path) == []
    assert server.sent[0]["status"] == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/send/", "/sockets", "/channel", ""])
async def test_paths_of_nobody(path: str) -> None:
    """Any other path is answered 404."""
    server = Server()
    assert await server.ask(path) == []
    assert server.sent[0]["status"] == 404


@pytest.mark.parametrize(
    ("path", "kind"), [("/push", "http"), ("/push/", "http"), ("/", "http"), ("/event", "http"), ("/", "websocket")]
)
async def test_original_paths_are_served_where_mounted(path: str, kind: str) -> None:
    """Original paths lead to the mounted site. Without a mount, or with another kind of request, they lead nowhere."""
    server = Server()
    assert await server.ask(path, kind) == []
    assert server.sent[0] == {"type": "websocket.close", "code": 1000, "reason": ""} or server.sent[0]["status"] == 404
    protocol = "channels" if path.startswith("/push") or kind == "websocket" else "topics"
    server = Server({protocol: "my shop"})
    rest = "" if path == "/" else path
    assert await server.ask(path, kind) == [(protocol, f"/{protocol}/my shop{rest}")]
    assert server.parts[protocol].asked[0][1] == f"/{protocol}/my%20shop{rest}".encode()


@pytest.mark.parametrize(
    ("path", "kind", "own"),
    [
        ("/push/more", "http", "/push"),
        ("/pushes", "http", "/push"),
        ("/channel/pings", "http", "/channel/ping"),
        ("/sysadmin", "http", "/sysadmin"),
        ("/any/path", "websocket", ""),
        ("/push", "websocket", ""),
    ],
)
async def test_the_rest_of_an_original_path_is_ignored(path: str, kind: str, own: str) -> None:
    """A path that begins as an original one stands for it, and every path is one of the mounted WebSocket."""
    assert await Server({"channels": "shop"}).ask(path, kind) == [("channels", f"/channels/shop{own}")]


async def test_other_paths_go_first() -> None:
    """Where a site is mounted, its WebSocket is on the paths that nothing else answers."""
    server = Server({"channels": "shop"})
    assert await server.ask("/socket.io/", "websocket") == [("sockets", "/socket.io/")]
    assert await server.ask("/topics/a", "websocket") == [("sockets", "/socket.io/"), ("topics", "/topics/a")]


async def test_a_port_of_the_replaced_server() -> None:
    """On such a port only the mounted site is served, its WebSocket on every path; on others nothing changes."""
    server = Server({"channels": "shop", "topics": "news"}, ports=(5222,))
    for path in ("/send", "/page", "/healthcheck", "/topics/news", "/channels/other/push", "/"):
        server.sent.clear()
        assert await server.ask(path, port=5222) == []
        assert server.sent[0]["status"] == 404
    assert await server.ask("/socket.io/", "websocket", 5222) == [("channels", "/channels/shop")]
    assert await server.ask("/send", port=80) == [("send", "/send"), ("channels", "/channels/shop")]
    server = Server({"channels": "shop"}, ports=(5222,))
    assert await server.ask("/push", port=5222) == [("channels", "/channels/shop/push")]
    server.dispatch.refuse_websockets()
    await server.ask("/", "websocket", 5222)
    assert server.sent[-2]["status"] == 503


async def test_a_port_of_one_application() -> None:
    """On such a port the application answers every path, and nothing else is served; WebSockets are refused."""
    server = Server()
    own = Part()
    server.dispatch.serve_port(9337, own)
    for path in ("/console", "/send", "/", "/page"):
        assert await server.ask(path, port=9337) == []
    assert [path for path, _ in own.asked] == ["/console", "/send", "/", "/page"]
    await server.ask("/socket.io/", "websocket", 9337)
    assert server.sent[-1]["type"] == "websocket.close"
    assert await server.ask("/send", port=80) == [("send", "/send")]


class SiteFiles(Part):
    """The paths of some sites. Lives for one test."""

    def serves(self, site: str) -> bool:
        """Whether the site is one of these."""
        return site in ("shop", "a/b", "channels")


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        (b"/shop/files", True),
        (b"/shop/files/", True),
        (b"/shop/files/1/2", True),
        (b"/a%2Fb/files/1", True),
        (b"/a/b/files/1", False),
        (b"/other/files/", False),
        (b"/shop/filesystem", False),
        (b"/shop", False),
        (b"/channels/files/1", False),
        (b"/%ff/files/", False),
    ],
)
async def test_paths_of_sites(path: bytes, answers: bool) -> None:
    """A path below the name of a site that has such paths is answered there, unless another application has its first
    segment. A slash within a name is no slash of the path."""
    server = Server()
    files = server.parts["files"] = SiteFiles()
    server.dispatch.serve_sites({"files": files})
    shown = unquote(path.decode())
    scope = {"type": "http", "path": shown, "raw_path": path, "method": "GET", "headers": [], "query_string": b""}

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(event: Any) -> None:
        pass

    await server.dispatch(scope | {"root_path": ""}, receive, send)
    assert [found[1] for found in files.asked] == ([path] if answers else [])


def test_which_websockets_are_served_at_once() -> None:
    """A WebSocket that opens a session of Socket.IO is; none of a page, of another protocol, or on a node that has
    ports for other protocols, and none once WebSockets are refused."""
    server = Server()
    paths = {"/socket.io/": True, "/socket.io": True, "/socket.io/page.js": False, "/channels/a": False, "/": False}
    assert {path: server.dispatch.serves_at_once(path, b"EIO=4") for path in paths} == paths
    assert not server.dispatch.serves_at_once("/socket.io/", b"EIO=4&sid=a")
    server.dispatch.refuse_websockets()
    assert not server.dispatch.serves_at_once("/socket.io/", b"EIO=4")
    mounted = Server({"channels": "shop"}, (81,))
    assert not mounted.dispatch.serves_at_once("/socket.io/", b"EIO=4")
