"""The parameters of a request as the values that an operation declares. Pure: texts in, values out."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from app.config.wording import in_words
from app.errors import RequestRefused
from app.protocols.operations import Operation, time_ms

__all__ = [
    "MAX_PARAMETERS",
    "gathered",
    "joined_path",
    "names_in_path",
    "read_json",
    "read_parameters",
    "read_place",
    "time_ms",
    "write_place",
]

#: Inputs of one request.
MAX_PARAMETERS = 100
#: The place of a slash within a name. No name has this character.
_SLASH = "\0"


def read_parameters(operation: Operation, given: Mapping[str, Any]) -> Any:
    """The values of an operation's parameters; numbers and truth may be text. Raises RequestRefused."""
    try:
        return msgspec.convert(given, operation.parameters, strict=False)
    except msgspec.ValidationError as error:
        raise RequestRefused(_sentence(operation.parameters, str(error))) from None


def read_json(body: bytes) -> dict[str, Any]:
    """The parameters in a body of JSON; none: no parameters. Raises RequestRefused."""
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise RequestRefused("Body: expected a JSON object.") from None


def gathered(
    kind: type[Struct],
    pairs: Iterable[tuple[str, str]],
    *,
    drops_empty: bool,
    takes_empty: Container[str] = (),
) -> dict[str, Any]:
    """The parameters of a query or a form by name. Of equal names the first counts, unless the parameter is a list.
    With `drops_empty` an empty field of a form counts as not given, but for some. Raises RequestRefused for too
    many."""
    lists = {field.encode_name for field in msgspec.structs.fields(kind) if _is_list(field.type)}
    found: dict[str, Any] = {}
    for number, (name, value) in enumerate(pairs):
        if number >= MAX_PARAMETERS:
            raise RequestRefused(f"Expected at most {MAX_PARAMETERS} parameters.")
        if drops_empty and not value and name not in takes_empty:
            continue
        if name in lists:
            found.setdefault(name, []).append(value)
        else:
            found.setdefault(name, value)
    return found


def joined_path(segments: Sequence[str]) -> str:
    """A path for a router, of the decoded parts of a request's path: a slash in a name, as sites may have, is no
    slash of the path."""
    return "/" + "/".join(segment.replace("/", _SLASH) for segment in segments)


def names_in_path(found: Mapping[str, str]) -> dict[str, str]:
    """The names that a router found in such a path."""
    return {name: value.replace(_SLASH, "/") for name, value in found.items()}


def write_place(place: Sequence[int] | None) -> str | None:
    """The cursor of a place in a list by time: numbers with dots between them."""
    return None if place is None else ".".join(map(str, place))


def read_place(cursor: str | None) -> tuple[int, int] | None:
    """The place of a cursor. Raises RequestRefused."""
    if cursor is None:
        return None
    at, _, id = cursor.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (at, id)):
        raise RequestRefused("cursor: expected the cursor of a page of this list.")
    return int(at), int(id)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list) or any(map(_is_list, get_args(kind)))


def _sentence(kind: type[Struct], message: str) -> str:
    """msgspec's message as a sentence that begins with the name of the parameter."""
    text, _, place = message.partition(" - at `$.")
    name = place.rstrip("`").partition("[")[0]
    if text.startswith("Object missing required field"):
        return f"{text.split('`')[1]}: is missing."
    if text.startswith("Object contains unknown field"):
        return f"{text.split('`')[1][:100]}: expected no such parameter."
    if text.startswith("Invalid enum value"):
        words = _words_of(next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == name))
        text = f"expected one of {', '.join(words)}"
    return f"{name}: {in_words(text)}."


def _words_of(kind: Any) -> list[str]:
    """The words of a Literal, wherever in the type it stands."""
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    return [word for inner in get_args(kind) for word in _words_of(inner)]
