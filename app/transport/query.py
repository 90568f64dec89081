"""The fields of a request's query, and percent signs: what a stranger's 64 KB of them cost has a bound."""

from string import hexdigits

#: A query has some ten fields. Tens of thousands, which fit into a head, would hold the loop for 15 ms.
MAX_FIELDS = 64
_BYTES = {f"{high}{low}".encode(): bytes([int(high + low, 16)]) for high in hexdigits for low in hexdigits}


def fields_of(query: bytes, most: int = MAX_FIELDS) -> list[tuple[str, str]]:
    """The fields in their order, decoded. Fields past the bound are not read; bad bytes are replaced."""
    if b"%" not in query and b"+" not in query:
        pieces = query.decode("utf-8", "replace").split("&", most)[:most]
        return [(name, value) for name, _, value in [piece.partition("=") for piece in pieces if piece]]
    fields: list[tuple[str, str]] = []
    for field in query.split(b"&", most)[:most]:
        if field:
            name, _, value = field.replace(b"+", b" ").partition(b"=")
            fields.append((unescaped(name), unescaped(value)))
    return fields


def unescaped(text: bytes) -> str:
    """The text with its percent signs decoded; a sign without two digits stays.

    The library's function takes up to five times as long for signs without digits, or beside other characters.
    """
    if b"%" in text:
        first, *others = text.split(b"%")
        text = first + b"".join([(_BYTES.get(piece[:2]) or b"%" + piece[:2]) + piece[2:] for piece in others])
    return text.decode("utf-8", "replace")
