"""The fields of a request's query. A stranger chooses how many there are, so all readers bound them."""

from urllib.parse import parse_qsl

#: A query has some ten fields. Tens of thousands, which fit into a head, would hold the loop for 15 ms.
MAX_FIELDS = 64


def fields_of(query: str, most: int = MAX_FIELDS) -> list[tuple[str, str]]:
    """The fields in their order, decoded. Fields past the bound are not read; bad bytes are replaced."""
    return parse_qsl("&".join(query.split("&", most)[:most]), keep_blank_values=True)
