"""GET /recado/messenger.js, messenger-load.js and their types: the client of messengers for pages."""

from importlib.resources import files

from starlette.routing import BaseRoute

from app.protocols.browser_module import module_route, small_module

_FOLDER = files("app.protocols.messenger") / "client"


def browser_client_routes() -> list[BaseRoute]:
    """The routes of the client, of the module for load tests, and of their types."""
    return [
        module_route("/recado/messenger.js", _small("messenger")),
        module_route("/recado/messenger.d.ts", _text("messenger.d.ts"), "text/plain"),
        module_route("/recado/messenger-load.js", _small("load")),
        module_route("/recado/messenger-load.d.ts", _text("load.d.ts"), "text/plain"),
    ]


def _small(name: str) -> str:
    return small_module(_text(f"{name}.js"))


def _text(name: str) -> str:
    return (_FOLDER / name).read_text()
