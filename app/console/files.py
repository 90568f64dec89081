"""The files of the pages: style, script, and the libraries that were fetched when Recado was installed or built."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.responses import PlainTextResponse, Response

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_VENDOR = "static/vendor"
#: Files that the demo's page has too.
_SHARED = ("look.css", "icon.svg")
#: The libraries, by their names in pages.
LIBRARIES = ("htmx.js", "uplot.js", "uplot.css")


class ConsoleFiles:
    """The files by name, in memory. Lives as long as the node."""

    def __init__(self) -> None:
        own = files("app.console") / "static"
        self._files = {file.name: file.read_bytes() for file in own.iterdir() if file.is_file()}
        self._files |= {name: (files("app") / "static" / name).read_bytes() for name in _SHARED}

    def answer(self, name: str) -> Response:
        """The file of this name. A library is read when it is asked for: it may be fetched while the server runs."""
        content = self._files.get(name)
        if content is None and name in LIBRARIES and (file := _library(name)).is_file():
            content = file.read_bytes()
        if content is None:
            return PlainTextResponse("There is no such file.", 404)
        kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        # Browsers ask each time: after an update no page mixes old files with new ones.
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def missing_libraries() -> list[str]:
    """One line for each library that is not installed."""
    missing = [name for name in LIBRARIES if not _library(name).is_file()]
    return [f"/console works without {name}: run scripts/fetch-clients (needs npm)" for name in missing]


def _library(name: str) -> Traversable:
    return files("app").joinpath(_VENDOR, name)
