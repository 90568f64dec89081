"""The names and types of files as strangers tell them, made harmless. Pure."""

import re
import unicodedata
from urllib.parse import quote

#: The longest name and type that are kept, in bytes of UTF-8 and in characters.
MAX_NAME_BYTES = 255
MAX_TYPE_CHARACTERS = 127
#: The longest ending of a name, such as `.tar`, that a cut keeps.
_MAX_ENDING_BYTES = 16
#: Categories of Unicode: control and format characters, surrogates, unassigned and private ones, ends of lines.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
#: The types that a browser shows and never runs. All others are bytes that are saved.
_SHOWN = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"),
        *("audio/mpeg", "audio/ogg", "audio/wav", "audio/webm", "audio/mp4", "audio/aac", "audio/flac"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
    }
)
_PLAIN = "text/plain"
_BYTES = "application/octet-stream"
#: Characters of a file name that RFC 8187 lets stand in `filename*`.
_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"
_NOT_QUOTABLE = re.compile(r"[^ !#-\[\]-~]|%")


def clean_name(name: str) -> str:
    """The last part of a path, without what is invisible, turns the direction of text, or names no file. "" if nothing
    is left."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(character for character in last if unicodedata.category(character) not in _INVISIBLE)
    return _cut(" ".join(unicodedata.normalize("NFC", visible).split()).strip(". "))


def _cut(name: str) -> str:
    """The name within its bound, with its ending."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = f"{dot}{ending}" if stem and len(ending.encode()) < _MAX_ENDING_BYTES else ""
    room = MAX_NAME_BYTES - len(tail.encode())
    return name.removesuffix(tail).encode()[:room].decode("utf-8", "ignore").rstrip(". ") + tail


def clean_type(kind: str) -> str:
    """A media type without parameters, in small letters; "" for anything else."""
    found = _TYPE.fullmatch(kind.partition(";")[0].strip().lower()[: MAX_TYPE_CHARACTERS + 1])
    return found[0] if found and len(found[0]) <= MAX_TYPE_CHARACTERS else ""


def served_type(kind: str) -> str:
    """The Content-Type of an answer: no browser runs it as a page or a script."""
    if kind == _PLAIN:
        return f"{_PLAIN}; charset=utf-8"
    return kind if kind in _SHOWN else _BYTES


def _is_base(character: str) -> bool:
    return not unicodedata.combining(character)


def disposition(name: str, kind: str) -> str:
    """The Content-Disposition of a file with a clean name: shown only if its type is one of those that never run."""
    way = "inline" if kind == _PLAIN or kind in _SHOWN else "attachment"
    if not name:
        return way
    plain = _NOT_QUOTABLE.sub("_", "".join(filter(_is_base, unicodedata.normalize("NFKD", name))))
    shown = f'{way}; filename="{plain}"'
    return shown if plain == name else f"{shown}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"
