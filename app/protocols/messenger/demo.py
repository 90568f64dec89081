"""The demo of messengers: a site, and a page on which two users write to each other."""

from importlib.resources import files

from msgspec import structs
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from app.config.settings import Config, Site
from app.protocols.messenger.bounds import LEAST_ITERATIONS, USER_PREFIX
from app.protocols.messenger.settings import Messenger
from app.protocols.page_files import PageFiles

_SITE = "team"
_PAGE = "/demo/messenger"
_API_KEY = "demo"


def demo_site(config: Config) -> Site | None:
    """The site of the demo; None without a database, and where a site of this name is somebody's own."""
    if config.journal_url is None or _SITE in config.sites:
        return None
    section = Messenger(is_demo=True, iterations=LEAST_ITERATIONS, registration="open")
    site = Site(name=_SITE, api_key=_API_KEY, user_room_prefix=USER_PREFIX, sections={Messenger: section})
    limits = ("device_ttl_seconds", "queue_limit", "batch_limit", "outbox_limit_bytes")
    return structs.replace(site, **{name: getattr(config, name) for name in limits})


def is_demo(site: Site) -> bool:
    """Whether the site is that of the demo: no settings make one so."""
    section = site.section(Messenger)
    return section is not None and section.is_demo


def demo_routes() -> list[BaseRoute]:
    """The page and its files."""
    page_files = PageFiles(directory=str(files("app.protocols.messenger") / "client" / "demo"))

    async def answer_page(request: Request) -> Response:
        return await page_files.get_response("index.html", request.scope)

    return [
        Route(_PAGE, answer_page),
        Route(f"{_PAGE}/", lambda request: RedirectResponse(_PAGE)),
        Mount(_PAGE, page_files),
    ]
