"""The page at the path of a site's `route`: RedMessenger answers GET there, and monitors ask for it."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from app.config.settings import Site
from app.protocols.redis_publish.settings import RedisPublish

CONNECTED = "Hey, you're connected!"


def route_pages(sites: Iterable[Site]) -> list[Route]:
    """A page for each `route`, with and without a slash at the end, as the original's router takes it."""
    settings = (site.section(RedisPublish) for site in sites)
    routes = [one.route for one in settings if one is not None and one.route is not None]
    return [Route(route + slash, _answer) for route in routes for slash in ("", "/")]


async def _answer(request: Request) -> Response:
    return HTMLResponse(CONNECTED)
