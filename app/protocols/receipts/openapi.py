"""GET /openapi.json: the OpenAPI 3.1 page of the paths for tenants' backends. It is a file beside this module."""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response


@cache
def openapi_page() -> bytes:
    """The page as JSON."""
    return (files("app.protocols.receipts") / "openapi.json").read_bytes()


async def openapi_endpoint(request: Request) -> Response:
    """Answers the page, to anybody: it holds nothing of any site."""
    return Response(openapi_page(), media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})
