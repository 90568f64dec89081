"""The sentence for a value that is not as its type wants it, and patterns with a meaning in words. Pure."""

import re

from msgspec import Meta

#: A pattern, as msgspec quotes it -> its meaning, for the error line.
_MEANINGS: dict[str, str] = {}
#: msgspec's word -> ours.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def matching(pattern: str, meaning: str) -> Meta:
    """The constraint that a text matches the pattern. The error for another text says `expected <meaning>`."""
    _MEANINGS[repr(pattern)] = meaning
    return Meta(pattern=pattern)


def in_words(message: str) -> str:
    """msgspec's sentence without the names of Python's types and without regular expressions."""
    form = r"Expected `(.*?)`(?:, got `(.*)`| matching regex (.*)| (of length >= 1)| ((?:of length )?[<>].*))?"
    parts = re.fullmatch(form, message)
    if parts is None:
        return message
    kinds, got, pattern, not_empty, bound = parts.groups()
    if pattern is not None:
        return f"expected {_MEANINGS[pattern]}"
    words = [_TYPES.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"]
    expected = f"expected {' or '.join(words)}"
    if not_empty:
        return f"{expected} that is not empty"
    if got:
        return f"{expected}, got {_TYPES.get(got, got)}"
    return f"{expected} {bound}" if bound else expected
