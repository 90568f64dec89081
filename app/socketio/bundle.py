"""GET /socket.io/socket.io.js: the browser bundle of socket.io-client, fetched when Recado was installed or built."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from app.socketio.engine_request import parse_query

BUNDLE_PATH = "/socket.io/socket.io.js"
_VENDOR = "static/vendor"
_VERSIONS = ("1", "2", "4")
_HOW_TO_GET = "run scripts/fetch-clients (needs npm)"


def bundle_routes(default: int = 4) -> list[BaseRoute]:
    """The route of the bundle: `?v=` names the client's major version, `default` the one without it."""

    def answer_bundle(request: Request) -> Response:
        version = parse_query(request.scope["query_string"]).get("v", str(default))
        if version not in _VERSIONS:
            return PlainTextResponse("v: expected 1, 2 or 4.", 404)
        file = _file(version)
        if not file.is_file():
            return PlainTextResponse(f"The client bundles are not installed: {_HOW_TO_GET}.", 404)
        headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
        return Response(file.read_bytes(), media_type="text/javascript", headers=headers)

    return [Route(BUNDLE_PATH, answer_bundle)]


def missing_bundles() -> list[str]:
    """One line for each bundle that is not installed: its path, and how to get it."""
    missing = [version for version in _VERSIONS if not _file(version).is_file()]
    return [f"{BUNDLE_PATH}?v={version} answers 404: {_HOW_TO_GET}" for version in missing]


def _file(version: str) -> Traversable:
    return files("app").joinpath(_VENDOR, f"socket.io-{version}.js")
