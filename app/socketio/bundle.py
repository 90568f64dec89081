"""GET /socket.io/socket.io.js: the browser bundle of socket.io-client, fetched when Recado was installed or built."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

BUNDLE_PATH = "/socket.io/socket.io.js"
_VENDOR = "static/vendor"
_VERSIONS = {"2": "socket.io-2.js", "4": "socket.io-4.js"}


def bundle_routes() -> list[BaseRoute]:
    """The route of the bundle; `?v=2` gives the client that old pages use, 4 is the default."""
    return [Route(BUNDLE_PATH, _answer_bundle)]


def _answer_bundle(request: Request) -> Response:
    name = _VERSIONS.get(request.query_params.get("v", "4"))
    if name is None:
        return PlainTextResponse("v: expected 2 or 4.", 404)
    file = files("app").joinpath(_VENDOR, name)
    if not file.is_file():
        return PlainTextResponse("The client bundles are not installed: run scripts/fetch-clients.", 404)
    headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
    return Response(file.read_bytes(), media_type="text/javascript", headers=headers)
