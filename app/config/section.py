"""A section of a configuration file: its keys, their types and bounds, and the sentence for a value that breaks them.

Knows nothing of files, of the environment, or of the defaults: a key that is absent, or null, is None here.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from app.errors import ConfigError

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


Text = Annotated[str, Meta(min_length=1)]
HttpUrl = Annotated[
    str,
    matching(
        r"^https?://([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?([/?#]\S*)?\Z",
        "a URL that begins with http:// or https://, without user name",
    ),
]
HeaderText = Annotated[str, matching(r"^[!-~]([ -~]*[!-~])?\Z", "text of printable ASCII characters")]
#: The parts are read by redis/address.py; the pattern finds a wrong database before the start.
RedisUrl = Annotated[
    str,
    matching(
        r"^(unix://\S+|rediss?://[^\s/?]*(/\d*)?(\?\S*)?|rediss?\+cluster://[^\s/?]+(/0?)?(\?\S*)?"
        r"|rediss?\+sentinel://[^\s/?]+/[^\s/?]+(/\d*)?(\?\S*)?)\Z",
        "a URL such as redis://host:6379/0, rediss://host, unix:///path, redis+sentinel://host,host/name "
        "or redis+cluster://host,host",
    ),
]
TtlSeconds = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
#: A number that a Lua script can still represent exactly.
Amount = Annotated[int, Meta(ge=1, le=2**53)]


class Section(Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping in a file. Lives while the settings are read.

    A field has the name of the setting that it fills, and the file's key where that differs.
    """

    def given(self) -> dict[str, Any]:
        """The values in the file, by the setting's name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class HistorySection(Section):
    """The bounds of the published messages that a protocol keeps."""

    messages: Amount | None = None
    bytes: Amount | None = None
    seconds: TtlSeconds | None = None


class SectionSpec(Struct, frozen=True):
    """A protocol's section of a site's block. Lives as long as the process."""

    #: The key in the file, such as `redisPublish`.
    key: str
    keys: type[Section]
    #: The values that the keys fill, with their defaults.
    settings: type[Struct]
    #: Whether a site with this section needs no authUrl.
    is_sufficient: bool = True
    #: The settings whose values no output shows.
    secrets: frozenset[str] = frozenset()

    def describe(self, settings: Struct) -> str:
        """The section as check-config shows it: `key=value ...`, a secret as `***`."""
        shown = {field.encode_name: getattr(settings, field.name) for field in msgspec.structs.fields(self.keys)}
        hidden = {field.encode_name for field in msgspec.structs.fields(self.keys) if field.name in self.secrets}
        return " ".join(
            f"{key}={'***' if key in hidden and value is not None else _as_written(value)}"
            for key, value in shown.items()
        )


_Block = TypeVar("_Block", bound=Section)


def decode_block(
    raw: object, block_type: type[_Block], place: Callable[[str], str], *, from_text: bool = False
) -> _Block:
    """The block's typed form. `from_text` reads numbers from text, as environment variables need it.

    `place` returns the name of a dotted key's place, for the error line. Raises ConfigError.
    """
    try:
        return msgspec.convert({} if raw is None else raw, block_type, strict=not from_text, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = re.sub(r"\[.*?\]", "", path.rstrip("`")).lstrip(".")
        unknown = re.fullmatch("Object contains unknown field `(.*)`", message, re.DOTALL)
        if unknown:
            full_key = f"{key}.{unknown[1]}" if key else unknown[1]
            keys = ", ".join(_keys_of(block_type, key))
            raise ConfigError(f"{place(full_key)}: unknown key, expected one of {keys}") from None
        raise ConfigError(f"{place(key)}: {_in_words(message)}") from None


def _as_written(value: object) -> str:
    """The value as a file would hold it."""
    return msgspec.json.encode(value).decode()


def _decode_path(_: type, value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise TypeError("Expected `str` of length >= 1")  # the wording of msgspec
    return Path(value)


def _keys_of(block_type: type[Section], key: str) -> list[str]:
    """The keys that may stand in the block, or in the section at the key in the block."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(block_type)}
    if not key:
        return list(fields)
    section, _, rest = key.partition(".")
    section_type = next(kind for kind in get_args(fields[section].type) if kind is not type(None))
    return _keys_of(section_type, rest)


def _in_words(message: str) -> str:
    """msgspec's sentence without the names of Python's types and without regular expressions."""
    parts = re.fullmatch(r"Expected `(.*?)`(?:, got `(.*)`| matching regex (.*)| (of length >= 1)| ([<>].*))?", message)
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
