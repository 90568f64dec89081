"""GET /recado/client.js and its types: the client of sites for pages, which is also the package in clients/js."""

from importlib.resources import files

from starlette.routing import BaseRoute

from app.protocols.browser_module import module_route, small_module

#: In a checkout a link to clients/js.
_FOLDER = files("app.protocols.sites") / "client"


def page_client_routes() -> list[BaseRoute]:
    """The routes of the client and of its types."""
    return [
        module_route("/recado/client.js", small_module((_FOLDER / "client.js").read_text())),
        module_route("/recado/client.d.ts", (_FOLDER / "client.d.ts").read_text(), "text/plain"),
    ]
