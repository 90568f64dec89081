"""The demo's site and routes. Knows the page's files and the few users, and nothing of how messages travel."""

from importlib.resources import files
from typing import get_args

from msgspec import structs
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from app.config.settings import Config, HookEvent, Site, WebhookSettings
from app.demo.events import SECRET, Events
from app.protocols.page_files import PageFiles
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec

_API_KEY = "demo"
_USERS = ("alice", "bob", "carol")


def demo_site(config: Config, port: int) -> Site:
    """The site `demo`. This process answers its authUrl and its webhook, so `port` is the port that it listens on."""
    url = f"http://{_own_host(config.host)}:{port}/demo"
    webhook = WebhookSettings(url=f"{url}/events", secrets=(SECRET,), events=get_args(HookEvent))
    site = Site(name="demo", auth_url=f"{url}/auth", api_key=_API_KEY, user_room_prefix="user_", webhook=webhook)
    limits = ("device_ttl_seconds", "queue_limit", "batch_limit", "outbox_limit_bytes")
    return structs.replace(site, **{name: getattr(config, name) for name in limits})


def demo_routes() -> list[BaseRoute]:
    """The page, its files, and the authUrl and the webhook of the demo's site."""
    events = Events()
    page_files = PageFiles(directory=str(files("app.demo") / "static"), packages=[("app", "static")])

    async def answer_page(request: Request) -> Response:
        return await page_files.get_response("index.html", request.scope)

    return [
        Route("/", lambda request: RedirectResponse("/demo")),
        Route("/demo", answer_page),
        Route("/demo/", lambda request: RedirectResponse("/demo")),
        Route("/demo/auth", _answer_rooms),
        Route("/demo/events", events.show),
        Route("/demo/events", events.receive, methods=["POST"]),
        Mount("/demo", page_files),
    ]


def _own_host(host: str) -> str:
    """The address at which a process that listens on `host` reaches itself."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{own}]" if ":" in own else own


async def _answer_rooms(request: Request) -> Response:
    """The token of a demo user is the user's name."""
    user = request.headers.get("authorization", "").removeprefix("Bearer ")
    if user not in _USERS:
        return PlainTextResponse("Unknown user", 401)
    return JSONResponse([f"user_{user}", "lobby"])


class _NodeDemo(NodeProtocol):
    """The demo of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        self.routes = demo_routes()


DEMO = ProtocolSpec("demo", _NodeDemo)
