"""The demo's site and routes; knows the page's files and the few users, nothing of how messages travel."""

from importlib.resources import files

from msgspec import structs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from app.settings import Config, Site

API_KEY = "demo"
_USERS = ("alice", "bob", "carol")
_STATIC = str(files("app.demo") / "static")


def demo_site(config: Config, port: int) -> Site:
    """The site `demo`: its authUrl is answered by this process, so `port` is the one it listens on."""
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
    site = Site(name="demo", auth_url=f"http://{host}:{port}/demo/auth", api_key=API_KEY, user_room_prefix="user_")
    limits = ("device_ttl_seconds", "queue_limit", "batch_limit", "outbox_limit_bytes")
    return structs.replace(site, **{name: getattr(config, name) for name in limits})


def demo_routes() -> list[BaseRoute]:
    """The page, its files, and the authUrl of the demo's site."""
    return [
        Route("/", lambda request: RedirectResponse("/demo")),
        Route("/demo", lambda request: FileResponse(f"{_STATIC}/index.html")),
        Route("/demo/auth", _answer_rooms),
        Mount("/demo", StaticFiles(directory=_STATIC)),
    ]


def _answer_rooms(request: Request) -> Response:
    """The token of a demo user is the user's name."""
    user = request.headers.get("authorization", "").removeprefix("Bearer ")
    if user not in _USERS:
        return PlainTextResponse("Unknown user", 401)
    return JSONResponse([f"user_{user}", "lobby"])
