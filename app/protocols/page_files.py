"""The files of a page of the demo, with the headers that all of them carry."""

from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Browsers ask each time (and get 304): after an update no page may mix old modules with new ones.
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The files of one page. Lives as long as the server."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response
