"""The cookies of the console and its pages, the address of a browser, and the way back after a login."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

#: The path of the console.
ROOT = "/console"
SESSION_COOKIE = "recado_console"
LOGIN = f"{ROOT}/login"


def own_path(text: str) -> str:
    """A path of the console, as it is; the console's first page for anything that could lead elsewhere."""
    is_own = text.startswith((f"{ROOT}/", f"{ROOT}?")) and text.isprintable() and "\\" not in text
    is_way_in = text.startswith((LOGIN, f"{ROOT}/oidc"))
    return text if is_own and ".." not in text and not is_way_in else ROOT


def cookie_of(request: Request, name: str) -> str:
    """The value of a cookie of the console; "" without one. The library's reader of cookies takes seconds for the
    quotes of a stranger's 64 KB, and these cookies have none."""
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            key, _, value = pair.partition("=")
            if key.strip() == name:
                return value.strip()
    return ""


def address_of(request: Request) -> str:
    """The address of a browser; "" where it is unknown."""
    return request.client.host if request.client is not None else ""


def set_cookie(
    response: Response, request: Request, name: str, value: str, path: str, seconds: int | None = None
) -> None:
    """Sets a cookie that no script reads, and that no other site's request brings."""
    is_secure = request.scope.get("scheme") == "https"
    response.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="strict", secure=is_secure)


def html_answer(text: str, status: int = 200) -> Response:
    """A page for one browser alone."""
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
