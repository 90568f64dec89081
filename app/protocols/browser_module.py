"""ES modules and their types that the server offers to pages: made small, with the headers that all of them carry."""

import re
from string import ascii_letters

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.digests import digest

_COMMENTS = re.compile(r"^\s*/\*\*.*?\*/\n|^\s*//[^\n]*\n", re.DOTALL | re.MULTILINE)
_INDENTATION = re.compile(r"^\s+", re.MULTILINE)
_LINE_ENDS = re.compile(r"(?<=[;,{(\[])\n")
#: The private members of classes, in each of the places where a name may stand.
_PRIVATE = re.compile(r"(?:(?<=this\.)|(?<=^)|(?<=^get )|(?<=^async ))#\w+", re.MULTILINE)
#: Browsers ask each time (and get 304): after an update no page may mix old modules with new ones.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}


def small_module(source: str) -> str:
    """A module as pages get it: without the source's indentation, its comments, which stand in lines of their own, and
    the ends of lines that end nothing. Names that no page can use are short."""
    text = _INDENTATION.sub("", _COMMENTS.sub("", source))
    short: dict[str, str] = {}
    text = _PRIVATE.sub(lambda found: short.setdefault(found[0], f"#{_digits(len(short))}"), text)
    return _LINE_ENDS.sub("", text)


def module_route(path: str, text: str, media_type: str = "text/javascript") -> BaseRoute:
    """The route of a module, or of its types."""
    body = text.encode()
    headers = {**_HEADERS, "ETag": f'"{digest(text).hex()[:32]}"'}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=media_type, headers=headers)

    return Route(path, answer)


def _digits(number: int) -> str:
    """A number in letters."""
    rest, last = divmod(number, len(ascii_letters))
    return (_digits(rest - 1) if rest else "") + ascii_letters[last]
